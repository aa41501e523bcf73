"""A store that fails, refuses or is unreachable: nothing is lost or doubled, and no trial waits."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from made_up_store import CURVE, PARAMETERS, RESULT, Store, close, fill, tracker, until

from search.records.records import Records
from search.records.states import State
from search.track.mirror import Mirror
from search.track.wanted import Outcome

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
    """Makes a third of all requests fail: before, after or long before the store carries them out."""

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
    assert "(away); the search goes on" in warnings[0] and "can be reached again" in warnings[1]
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


def test_a_deleted_experiment_is_the_user_s_to_bring_back(records: Records, store: Store) -> None:
    store.client.delete_experiment(store.client.create_experiment("made-up"))
    fill(records)
    warnings: list[str] = []
    begin = time.monotonic()
    assert not close(tracker(records, warnings.append))
    assert time.monotonic() - begin < 30  # no use in waiting
    assert "mlflow experiments restore --experiment-id" in warnings[-1]


@pytest.fixture
def away(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point MLflow at a port without a server; returns the address of the store that will be there later."""
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
    assert "(connection refused); the search goes on" in warnings[0]
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
