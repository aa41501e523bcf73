"""Records and trackers of searches whose trials are made up, and checks of the MLflow store they fill."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

import mlflow
from mlflow.entities import Run

from search.records.records import Records
from search.records.states import State
from search.records.trials_table import METRICS
from search.track.live import Tracker

CURVE = {"samples": [100.0, 200.0, 300.0], "hr_at_10": [0.25, 0.5, 0.75], "filter_rate": [0.0, 0.5, 1.0]}
SEARCHES, TRIALS = 8, 20


def result(number: int) -> dict[str, float]:
    return dict.fromkeys(METRICS, number / 7)


def new_records(folder: Path, name: str = "made-up") -> Records:
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(f"name: {name}\n")
    records = Records(folder)
    records.begin({})
    return records


def measure(records: Records, tracker: Tracker, numbers: range, seconds: float = 0.0) -> float:
    """Record and track trials as a search does; every fourth fails. Returns the longest seconds that one trial took."""
    longest = 0.0
    for number in numbers:
        begin = time.monotonic()
        records.started(number, {"top_k": number})
        tracker.update()
        if number % 4 == 3:
            records.ended(number, State.FAILED, "RuntimeError: why", "Traceback")
        else:
            records.finished(number, result(number), CURVE)
        tracker.update()
        longest = max(longest, time.monotonic() - begin)
        time.sleep(seconds)
    return longest


def assert_complete(records: Records, experiment: str = "made-up", state: str = "FINISHED") -> None:
    """Assert that the store holds one run per trial, each with the state, the values and one curve of the records."""
    store = mlflow.MlflowClient()
    found = store.get_experiment_by_name(experiment)
    assert found is not None
    (parent,) = store.search_runs([found.experiment_id], f"tags.`etarec.search` = '{records.identity}'")
    runs = store.search_runs([found.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert parent.info.run_id == records.parent_run_id and parent.info.status == state
    children = {run.data.tags["trial_id"]: run for run in runs}
    assert len(children) == len(runs) == len(records.trials)
    for trial in records.snapshot():
        assert_same(store, children[trial.trial_id], trial.trial_id, records)


def assert_same(store: mlflow.MlflowClient, run: Run, name: str, records: Records) -> None:
    trial = next(trial for trial in records.snapshot() if trial.trial_id == name)
    assert (run.info.status, run.info.run_id) == (str(trial.state), trial.mlflow_run_id)
    assert run.data.params == {key: str(value) for key, value in trial.parameters.items()}
    assert ("error" in run.data.tags) == bool(trial.error)
    if trial.state is State.FINISHED:
        assert run.data.metrics.items() >= trial.metrics.items()
        history = store.get_metric_history(run.info.run_id, "stream_hr_at_10")
        assert [(point.step, point.value) for point in history] == [(100, 0.25), (200, 0.5), (300, 0.75)]


def a_search(uri: str, folder: Path, name: str, trials: int, barrier: "multiprocessing.synchronize.Barrier") -> None:
    """The program of one of the processes that start at the same time."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.chdir(folder.parent)
    records = new_records(folder, name)
    barrier.wait()
    tracker = Tracker(name, records, {"search.seed": 0}, lambda text: print(text, file=sys.stderr))
    measure(records, tracker, range(trials), seconds=0.05)
    front = {"trial-0000": result(1)}
    sys.exit(0 if tracker.close(State.FINISHED, {"hypervolume": 0.5}, front, folder, patience=300) else 1)


def search_at_once(uri: str, folder: Path, trials: int = TRIALS) -> None:
    """Run eight searches at once into one store, four of them under one name, and check all their runs."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(SEARCHES)
    names = {folder / f"out-{number}": f"search-{min(number, 4)}" for number in range(SEARCHES)}
    searches = [context.Process(target=a_search, args=(uri, *item, trials, barrier)) for item in names.items()]
    for search in searches:
        search.start()
    for search in searches:
        search.join(600)
    assert [search.exitcode for search in searches] == [0] * SEARCHES
    store = mlflow.MlflowClient()
    assert {found.name for found in store.search_experiments()} == {"Default", *names.values()}
    for out, name in names.items():
        assert_complete(Records(out), name)
