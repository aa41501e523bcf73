"""A real tracking server that is killed, comes back empty, hangs, or is written to by many."""

import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from tracking_server import Server

from search import track
from search.records import METRICS, Records, State
from search.tracker import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

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
    """Trials as a search writes them: every fourth fails. Returns the longest time that one was held up."""
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
    """One run a trial, each in its state, with its curve once, as the records say."""
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


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def test_nothing_is_lost_by_a_server_that_dies_comes_back_empty_and_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setattr("search.tracker.RETRY_SECONDS", 0.3)
    records = new_records(tmp_path / "out")
    with Server(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        warnings: list[str] = []
        tracker = Tracker("made-up", records, {"search.seed": 0}, warnings.append)
        measure(records, tracker, range(4))
        until(lambda: bool(records.trials[3].mlflow_run_id))
        before = records.parent_run_id
        server.kill()
        held_up = [measure(records, tracker, range(4, 8))]
        until(lambda: bool(warnings))
        server.empty()
        server.start()
        held_up.append(measure(records, tracker, range(8, 12)))
        until(lambda: bool(records.trials[11].mlflow_run_id))
        assert records.parent_run_id != before
        measure(records, tracker, range(12, 13))
        server.signal(signal.SIGSTOP)  # maybe in the middle of a request
        held_up.append(measure(records, tracker, range(13, 17), seconds=2))
        server.signal(signal.SIGCONT)
        held_up.append(measure(records, tracker, range(17, 20)))
        assert max(held_up) < 3, "a trial waited for the server"
        front = {"trial-0000": result(1), "trial-0016": result(2)}
        assert tracker.close(State.FINISHED, {"hypervolume": 0.5}, front, tmp_path / "out"), warnings
        assert_complete(records)
        assert "measuring goes on" in warnings[0]
        assert capsys.readouterr().out == ""  # MLflow likes to print two lines a run
        assert track.main([str(tmp_path / "out")]) == 0
        assert {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(records.parent_run_id)} == {
            file.name for file in (tmp_path / "out").iterdir()
        }


def test_the_end_of_a_search_waits_no_longer_than_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With requests that wait for 30 s as by default; what the server carries out late is doubled by nobody."""
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    records = new_records(tmp_path / "out")
    with Server(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        warnings: list[str] = []
        tracker = Tracker("made-up", records, {}, warnings.append)
        measure(records, tracker, range(3))
        until(lambda: bool(records.trials[2].mlflow_run_id))
        server.signal(signal.SIGSTOP)
        measure(records, tracker, range(3, 6), seconds=0.5)
        begin = time.monotonic()
        assert not tracker.close(State.FINISHED, {"hypervolume": 0.5}, {}, tmp_path / "out", patience=3)
        assert time.monotonic() - begin < 10
        assert "python -m search.track" in warnings[-1] and "complete" in warnings[-1]
        server.signal(signal.SIGCONT)
        assert track.main([str(tmp_path / "out")]) == 0, capsys.readouterr().err
        time.sleep(1)  # what had waited in the server's queue is through
        assert track.main([str(tmp_path / "out")]) == 0
        assert_complete(Records(tmp_path / "out"), state="KILLED")  # no provenance.json: it never wrote an end


def a_search(uri: str, folder: Path, name: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    """One of many processes that begin at once."""
    import os

    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.chdir(folder.parent)
    records = new_records(folder, name)
    barrier.wait()
    tracker = Tracker(name, records, {"search.seed": 0}, lambda text: print(text, file=sys.stderr))
    measure(records, tracker, range(TRIALS), seconds=0.05)
    front = {"trial-0000": result(1)}
    sys.exit(0 if tracker.close(State.FINISHED, {"hypervolume": 0.5}, front, folder, patience=300) else 1)


def search_at_once(uri: str, folder: Path) -> None:
    """Eight searches, four of them under one name, into one store; then all of their runs are looked at."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(SEARCHES)
    names = {folder / f"out-{number}": f"search-{min(number, 4)}" for number in range(SEARCHES)}
    searches = [context.Process(target=a_search, args=(uri, *item, barrier)) for item in names.items()]
    for search in searches:
        search.start()
    for search in searches:
        search.join(600)
    assert [search.exitcode for search in searches] == [0] * SEARCHES
    store = mlflow.MlflowClient()
    assert {found.name for found in store.search_experiments()} == {"Default", *names.values()}
    for out, name in names.items():
        assert_complete(Records(out), name)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///{folder}/new folder/mlflow.db"])
def test_eight_searches_at_once_into_a_sqlite_store_that_none_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = uri.format(folder=tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    search_at_once(uri, tmp_path)
    assert not [file.name for file in tmp_path.rglob("*lock*")]


def test_eight_searches_at_once_through_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        search_at_once(server.address, tmp_path)
    shutil.rmtree(tmp_path / "files")
