"""MLflow is a copy of the records: complete, without repeats, and never in a trial's way. Real stores in a folder."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from search import tracking
from search.records import METRICS, Records, State
from search.tracking import Tracker

RESULT = dict.fromkeys(METRICS, 0.25)
CURVE = {"samples": [100.0, 200.0], "hr_at_10": [0.25, 0.5], "filter_rate": [0.0, 1.0]}
PARAMETERS = {"search.seed": 0, "checkpoint": None, **{f"space.{n}": n for n in range(110)}}  # more than one batch


class Store:
    """What lies in the store, asked for past the tracker."""

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


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store with its tables: making them takes a second, which the tests need not spend one by one."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: bytes) -> Store:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    Path("mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.05)
    return Store()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    (tmp_path / "out").mkdir()
    records = Records(tmp_path / "out")
    records.begin({})
    return records


def fill(records: Records) -> None:
    for number in range(4):
        records.started(number, {"top_k": None if number == 1 else 50, "admit": "confident"})
    records.finished(0, RESULT, CURVE)
    records.ended(1, State.FAILED, "NotFiniteError: seconds is nan", "Traceback\nNotFiniteError")
    records.ended(2, State.KILLED, "the search was interrupted")


def tracker(records: Records, warn: Callable[[str], None] = pytest.fail) -> Tracker:
    return Tracker("made-up", records, PARAMETERS, warn)


def close(
    one: Tracker, state: State = State.FINISHED, front: tuple[str, ...] = (), artifacts: Path | None = None
) -> bool:
    return one.close(state, {"hypervolume": 0.4}, dict.fromkeys(front, RESULT), artifacts, patience=0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_search_is_one_parent_with_a_child_per_trial(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    records.write_table()
    assert close(tracker(records), State.KILLED, ("trial-0000",), tmp_path / "out")
    parent, children = store.parent(), store.children()
    assert parent.info.status == "KILLED" and parent.data.metrics == {"hypervolume": 0.4}
    assert parent.data.params == {name: "null" if value is None else str(value) for name, value in PARAMETERS.items()}
    assert {a.path for a in store.client.list_artifacts(parent.info.run_id)} == {"trials.csv", "trials.jsonl"}
    states = {name: run.info.status for name, run in children.items()}
    assert states == {trial.trial_id: str(trial.state) for trial in records.trials.values()}
    assert children["trial-0001"].data.params == {"top_k": "null", "admit": "confident"}
    assert children["trial-0001"].data.tags["error"] == "NotFiniteError: seconds is nan"
    assert "Traceback" in children["trial-0001"].data.tags["traceback"]
    assert records.parent_run_id == parent.info.run_id
    assert {t.trial_id: t.mlflow_run_id for t in records.trials.values()} == {
        name: run.info.run_id for name, run in children.items()
    }


def test_a_finished_trial_has_its_metrics_and_its_curve_by_samples_served(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), front=("trial-0000",))
    children = store.children()
    run = children["trial-0000"]
    assert run.data.metrics.items() >= {**RESULT, **{f"test_{name}": value for name, value in RESULT.items()}}.items()
    assert store.history(run, "stream_hr_at_10") == [(100, 0.25), (200, 0.5)]
    assert store.history(run, "stream_filter_rate") == [(100, 0.0), (200, 1.0)]
    assert "stream_samples" not in run.data.metrics
    assert [name for name, one in children.items() if "pareto" in one.data.tags] == ["trial-0000"]
    assert run.data.tags["pareto"] == "true"


def test_the_store_follows_while_the_search_runs(records: Records, store: Store) -> None:
    one = tracker(records)
    records.started(0, {"top_k": 50})
    one.update()
    until(lambda: records.trials[0].mlflow_run_id != "")
    until(lambda: store.children()["trial-0000"].data.params == {"top_k": "50"})
    assert store.children()["trial-0000"].info.status == store.parent().info.status == "RUNNING"
    records.finished(0, RESULT, CURVE)
    one.update()
    until(lambda: store.children()["trial-0000"].info.status == "FINISHED")
    assert close(one)


def test_runs_are_found_again_where_the_journal_has_not_heard_of_them(
    records: Records, store: Store, tmp_path: Path
) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    before = {name: run.info.run_id for name, run in store.children().items()}
    ended = {name: run.info.end_time for name, run in store.children().items()}
    journal = tmp_path / "out/trials.jsonl"
    heard = [line for line in journal.read_text().splitlines(keepends=True) if "tracked" not in line]
    journal.write_text("".join(heard))
    again = Records(tmp_path / "out")
    assert again.parent_run_id == again.trials[0].mlflow_run_id == ""
    again.finished(3, RESULT, CURVE)
    assert close(tracker(again))
    children = store.children()
    assert {name: run.info.run_id for name, run in children.items()} == before
    assert {t.trial_id: t.mlflow_run_id for t in again.trials.values()} == before
    assert store.parent().info.status == "FINISHED" and store.parent().info.run_id == again.parent_run_id
    assert store.history(children["trial-0000"], "stream_hr_at_10") == [(100, 0.25), (200, 0.5)]  # not twice
    assert children["trial-0000"].info.end_time == ended["trial-0000"]
    assert children["trial-0003"].info.status == "FINISHED"


def test_a_trial_that_was_killed_starts_again_in_its_run(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    again = Records(tmp_path / "out")
    again.started(2, again.trials[2].parameters)
    one = tracker(again)
    until(lambda: store.children()["trial-0002"].info.status == "RUNNING")
    assert store.parent().info.status == "RUNNING"
    again.ended(2, State.KILLED, "again")
    one.update()
    until(lambda: store.children()["trial-0002"].info.status == "KILLED")
    again.started(2, again.trials[2].parameters)
    again.finished(2, RESULT, CURVE)
    assert close(one)
    run = store.children()["trial-0002"]
    assert run.info.status == "FINISHED" and run.data.metrics["hr_at_10"] == 0.25 and "error" not in run.data.tags


def test_marks_of_an_earlier_front_go(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    records.finished(3, RESULT, CURVE)
    assert close(tracker(records), front=("trial-0000", "trial-0003"))
    assert close(tracker(Records(tmp_path / "out")), front=("trial-0003",))
    assert [name for name, run in store.children().items() if "pareto" in run.data.tags] == ["trial-0003"]


def test_what_a_server_lost_halfway_is_written_again(
    records: Records, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers `create_run` and goes away before the run has its parameters: parent first, then a trial."""
    real, failures = mlflow.MlflowClient.log_batch, [True, False, False, True]  # one per batch of parameters

    def log_batch(*arguments: object, **options: object) -> None:
        if options.get("params") and failures and failures.pop(0):
            raise ConnectionError("away")
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", log_batch)
    fill(records)
    warnings: list[str] = []
    one = tracker(records, warnings.append)
    until(lambda: not failures)
    assert one.close(State.FINISHED, {}, {}, None, patience=5)
    assert len(store.parent().data.params) == len(PARAMETERS)
    assert all(run.data.params.keys() == {"top_k", "admit"} for run in store.children().values())
    assert len(warnings) == 1


@pytest.fixture
def away(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking server that refuses; returns the address of the store that will be there later."""
    there = mlflow.get_tracking_uri()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    return there


@pytest.mark.usefixtures("away")
def test_a_store_that_is_away_holds_nobody_up(records: Records) -> None:
    warnings: list[str] = []
    begin = time.monotonic()
    one = tracker(records, warnings.append)
    for number in range(20):
        records.started(number, {"top_k": 50})
        one.update()
    assert time.monotonic() - begin < 1
    until(lambda: bool(warnings))
    assert not close(one)
    assert [text.split(" (")[0] for text in warnings] == ["MLflow cannot be reached"] * 2
    assert "measuring goes on" in warnings[0] and "the files in the output folder are complete" in warnings[1]
    assert all("\n" not in text for text in warnings)
    assert "mlflow" not in {thread.name for thread in threading.enumerate()}


def test_a_store_that_comes_back_gets_all(
    records: Records, store: Store, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    one = tracker(records, warnings.append)
    fill(records)
    until(lambda: bool(warnings))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    until(lambda: records.trials[3].mlflow_run_id != "")
    assert close(one) and len(warnings) == 1
    assert {name: run.info.status for name, run in store.children().items()} == {
        trial.trial_id: str(trial.state) for trial in records.trials.values()
    }
