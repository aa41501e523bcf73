"""Made-up records, their tracker, and a reader of the MLflow store that it fills."""

import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from search.records.records import Records
from search.records.states import State
from search.records.trials_table import METRICS
from search.track.live import Tracker

RESULT = dict.fromkeys(METRICS, 0.25)
CURVE = {"samples": [100.0, 200.0], "hr_at_10": [0.25, 0.5], "filter_rate": [0.0, 1.0]}
PARAMETERS = {
    "search.seed": 0,
    "checkpoint": None,
    **{f"space.{n}": n for n in range(110)},
}  # two requests


class Store:
    """The runs in the store, read without the tracker."""

    def __init__(self) -> None:
        self.client = mlflow.MlflowClient()

    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name("made-up")
        assert experiment is not None
        return list(self.client.search_runs([experiment.experiment_id]))

    def parent(self) -> Run:
        (parent,) = [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]
        return parent

    def children(self) -> dict[str, Run]:
        children = [run for run in self.runs() if "mlflow.parentRunId" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {self.parent().info.run_id}
        by_trial = {run.data.tags["trial_id"]: run for run in children}
        assert len(by_trial) == len(children)
        return by_trial

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in self.client.get_metric_history(run.info.run_id, metric)]


def fill(records: Records) -> None:
    for number in range(4):
        records.started(number, {"top_k": None if number == 1 else 50, "admit": "confident"})
    records.finished(0, RESULT, CURVE)
    records.ended(1, State.FAILED, "NotFiniteError: seconds is nan", "Traceback\nNotFiniteError")
    records.ended(2, State.KILLED, "the search was interrupted")


def tracker(records: Records, warn: Callable[[str], None] = pytest.fail) -> Tracker:
    return Tracker("made-up", records, PARAMETERS, warn)


def close(
    one: Tracker,
    state: State = State.FINISHED,
    front: tuple[str, ...] = (),
    artifacts: Path | None = None,
    patience: float = 60,
) -> bool:
    return one.close(state, {"hypervolume": 0.4}, dict.fromkeys(front, RESULT), artifacts, patience=patience)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met within 60 s"
        time.sleep(0.02)
