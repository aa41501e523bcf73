"""MLflow is a copy of the records: complete, without repeats, and never in a trial's way. Real stores in a folder."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from search import tracker as tracker_module
from search.mirrored import Outcome
from search.records import METRICS, Records, State
from search.tracker import Tracker
from search.tracking import Mirror

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
    monkeypatch.setattr(tracker_module, "RETRY_SECONDS", 0.05)
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


REQUESTS = (
    "get_experiment_by_name",
    "create_experiment",
    "search_runs",
    "get_run",
    "create_run",
    "log_batch",
    "update_run",
    "set_terminated",
    "delete_tag",
    "set_tag",
    "list_artifacts",
    "log_artifact",
)


class BadLine:
    """Between client and store: a third of all requests fails, before, after or long before they are carried out."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch):
        self.random, self.late, self.failures = random.Random(seed), list[threading.Timer](), 0
        for name in REQUESTS:
            monkeypatch.setattr(mlflow.MlflowClient, name, self.through(getattr(mlflow.MlflowClient, name)))

    def through(self, request: Callable[..., object]) -> Callable[..., object]:
        def attempt(*arguments: object, **options: object) -> object:
            fate = self.random.choice(["lost", "answer lost", "late", *["fine"] * 6]) if self.failures < 60 else "fine"
            if fate == "fine":
                return request(*arguments, **options)
            self.failures += 1
            if fate == "answer lost":
                request(*arguments, **options)
            if fate == "late":
                self.late.append(threading.Timer(0.1, self.carry_out, (request, arguments, options)))
                self.late[-1].start()
            raise ConnectionError(fate)

        return attempt

    @staticmethod
    def carry_out(request: Callable[..., object], arguments: tuple[object, ...], options: dict[str, object]) -> None:
        with contextlib.suppress(Exception):  # a server has nobody to tell any more
            request(*arguments, **options)

    def settle(self) -> None:
        for timer in self.late:
            timer.join()


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_line_loses_and_doubles_nothing(
    records: Records, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    with monkeypatch.context() as patch:
        line = BadLine(seed, patch)
        warnings: list[str] = []
        one = tracker(records, warnings.append)
        for number in range(12):
            records.started(number, {"top_k": number})
            one.update()
            if number % 3:
                records.finished(number, RESULT, CURVE)
            else:
                records.ended(number, State.FAILED, "why", "Traceback")
            one.update()
            time.sleep(0.05)
        assert close(one, front=("trial-0001", "trial-0002"), artifacts=tmp_path / "out")
        assert line.failures > 10
        line.settle()
    mirror = Mirror("made-up", records, PARAMETERS)  # what came after the end is put right by the next look
    outcome = Outcome(State.FINISHED, {"hypervolume": 0.4}, dict.fromkeys(("trial-0001", "trial-0002"), RESULT))
    mirror.end(outcome)
    assert mirror.created == set()
    children = store.children()
    assert {name: run.info.status for name, run in children.items()} == {
        trial.trial_id: str(trial.state) for trial in records.trials.values()
    }
    assert {trial.trial_id: trial.mlflow_run_id for trial in records.trials.values()} == {
        name: run.info.run_id for name, run in children.items()
    }
    for trial in records.in_state(State.FINISHED):
        run = children[trial.trial_id]
        assert store.history(run, "stream_hr_at_10") == [(100, 0.25), (200, 0.5)]
        assert store.history(run, "hr_at_10") == [(0, 0.25)] and run.data.params == {"top_k": str(trial.number)}
    assert len(store.history(children["trial-0001"], "test_hr_at_10")) == 1
    parent = store.parent()
    assert parent.info.status == "FINISHED" and len(parent.data.params) == len(PARAMETERS)
    assert len(store.history(parent, "hypervolume")) == 1


def test_a_store_that_answers_and_refuses_is_left_alone(
    records: Records, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", lambda *arguments: 1 / 0)
    fill(records)
    warnings: list[str] = []
    assert not close(tracker(records, warnings.append), patience=2)
    assert "not up to date (division by zero)" in warnings[-1]
    monkeypatch.undo()


def test_one_failure_is_no_news_and_a_recovery_is(
    records: Records, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = mlflow.MlflowClient.create_run, [True, False, True, True, True]

    def create_run(*arguments: object, **options: object) -> object:
        if failures and failures.pop(0):
            raise ConnectionError("away")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", create_run)
    warnings: list[str] = []
    one = tracker(records, warnings.append)
    until(lambda: len(failures) == 3)
    assert warnings == []
    fill(records)
    one.update()
    until(lambda: len(warnings) == 2)
    assert "(away); measuring goes on" in warnings[0] and "is reached again" in warnings[1]
    assert close(one) and len(store.children()) == 4 and len(warnings) == 2


def test_a_store_that_lost_its_runs_gets_them_again(records: Records, store: Store) -> None:
    fill(records)
    one = tracker(records)
    until(lambda: all(trial.mlflow_run_id for trial in records.snapshot()))
    until(lambda: store.children()["trial-0002"].info.status == "KILLED")
    for run in store.runs():
        store.client.delete_run(run.info.run_id)
    records.finished(3, RESULT, CURVE)
    assert close(one, front=("trial-0000",))
    assert {name: run.info.status for name, run in store.children().items()} == {
        trial.trial_id: str(trial.state) for trial in records.trials.values()
    }
    assert store.children()["trial-0003"].info.run_id == records.trials[3].mlflow_run_id


def test_a_search_is_found_in_an_experiment_that_was_renamed(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    identifier = store.parent().info.experiment_id
    store.client.rename_experiment(identifier, "renamed")
    assert close(tracker(Records(records.directory)))
    assert store.client.get_experiment_by_name("made-up") is None
    assert len(store.client.search_runs([identifier])) == 5


def test_a_deleted_experiment_is_the_user_s_to_bring_back(records: Records, store: Store) -> None:
    store.client.delete_experiment(store.client.create_experiment("made-up"))
    fill(records)
    warnings: list[str] = []
    begin = time.monotonic()
    assert not close(tracker(records, warnings.append))
    assert time.monotonic() - begin < 30  # no use in waiting
    assert "mlflow experiments restore --experiment-id" in warnings[-1]


def test_a_run_that_the_records_know_nothing_of_is_closed(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    tags = {"mlflow.parentRunId": records.parent_run_id, "trial_id": "trial-0077"}
    store.client.create_run(store.parent().info.experiment_id, tags=tags)
    assert close(tracker(Records(records.directory)))
    assert store.children()["trial-0077"].info.status == "KILLED"


def test_texts_that_no_store_takes_are_shortened(records: Records, store: Store) -> None:
    records.started(0, {"top_k": 1})
    records.ended(0, State.FAILED, "a \0 b", "x" * 20000)
    assert close(tracker(records))
    tags = store.children()["trial-0000"].data.tags
    assert tags["error"] == "a  b" and len(tags["traceback"]) == 5000


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
    assert not close(one, patience=0.5)
    assert [text.split(" (")[0] for text in warnings] == ["MLflow cannot be reached", "MLflow is not up to date"]
    assert "(connection refused); measuring goes on" in warnings[0]
    assert "`python -m search.track out`" in warnings[1]
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
    assert close(one) and "cannot be reached" in warnings[0] and len(warnings) <= 2
    assert {name: run.info.status for name, run in store.children().items()} == {
        trial.trial_id: str(trial.state) for trial in records.trials.values()
    }
