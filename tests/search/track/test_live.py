"""A real tracking server that is killed, comes back empty, hangs, or is written to by many."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from tracked_searches import assert_complete, measure, new_records, result, search_at_once
from tracking_server import Server

from search.records.records import Records
from search.records.states import State
from search.track import __main__ as track
from search.track.live import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def test_nothing_is_lost_by_a_server_that_dies_comes_back_empty_and_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setattr("search.track.live.RETRY_SECONDS", 0.3)
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
        assert "the search goes on" in warnings[0]
        assert capsys.readouterr().out == ""  # MLflow likes to print two lines a run
        assert track.main([str(tmp_path / "out")]) == 0
        assert {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(records.parent_run_id)} == {
            file.name for file in (tmp_path / "out").iterdir()
        }


def test_the_end_of_a_search_waits_no_longer_than_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Requests wait for 30 s, the default; one that the server carries out late is not written twice."""
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
