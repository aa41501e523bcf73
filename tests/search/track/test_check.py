"""The store is opened before hours of training: a refusal ends the search, with its whole reason."""

import sqlite3
from pathlib import Path

import mlflow
import pytest
from made_up_store import Store
from mlflow.exceptions import RestException
from sqlalchemy.exc import OperationalError

from etarec.config import UserError
from search.track import check
from search.track.check import check_store
from search.track.store import connect, experiment_id


def test_a_store_that_can_be_written_is_left_as_it_was(store: Store, tmp_path: Path) -> None:
    before = (tmp_path / "mlflow.db").read_bytes()
    assert check_store("made-up", 10) == ""
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/a/mlflow.db")
    assert check_store("made-up", 10) == "" and list(tmp_path.iterdir()) == []


def test_an_empty_database_gets_its_tables_from_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert check_store("made-up", 10) == "" and (tmp_path / "mlflow.db").read_bytes() == b""


def test_a_store_of_another_version_is_refused_with_the_cure(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with pytest.raises(UserError, match=r"found version 0123456789ab, .* run 'mlflow db upgrade <database_uri>'.*expe"):
        check_store("made-up", 10)


def test_a_store_that_is_read_only_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{tmp_path}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(UserError, match=r"cannot be used: .*attempt to write a readonly database"):
        check_store("made-up", 10)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match=r"cannot be used: .*file is not a database"):
        check_store("made-up", 10)


def test_a_deleted_experiment_is_refused(store: Store) -> None:
    client = connect()
    client.delete_experiment(experiment_id(client, "made-up"))
    with pytest.raises(UserError, match="the experiment 'made-up' was deleted in MLflow"):
        check_store("made-up", 10)


@pytest.mark.parametrize("uri", ["gopher://somewhere", "mlruns", "file:///tmp/mlruns"])
def test_an_address_of_no_store_is_refused(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="cannot be used"):
        check_store("made-up", 10)


def test_a_refusal_tells_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+none://ada:hun@ter/22@tracking/mlflow?token=hunter22")
    with pytest.raises(UserError) as refused:
        check_store("made-up", 10)
    assert "hun" not in str(refused.value) and "ter/22" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("UNAUTHENTICATED", "does not accept the user or password"),
        ("PERMISSION_DENIED", "ask for the permission EDIT"),
        ("ENDPOINT_NOT_FOUND", "cannot be used: ENDPOINT_NOT_FOUND: no"),
        ("TEMPORARILY_UNAVAILABLE", None),
    ],
)
def test_an_answer_of_a_server_tells_a_refusal_from_trouble(
    monkeypatch: pytest.MonkeyPatch, code: str, words: str | None
) -> None:
    def answer(*given: object) -> None:
        raise RestException({"error_code": code, "message": "no"})

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", answer)
    if words is None:
        assert check_store("made-up", 10) == f"{code}: no"
    else:
        with pytest.raises(UserError, match=words):
            check_store("made-up", 10)


@pytest.mark.parametrize(
    ("reason", "away"),
    [
        ("database is locked", True),
        ('connection to server at "db", port 5432 failed: Connection refused', True),
        ('could not translate host name "db" to address', True),
        ('FATAL:  password authentication failed for user "ada"', False),
        ('FATAL:  database "mlflow" does not exist', False),
        ("FATAL:  the database system is starting up", True),
        ("permission denied for table experiments", False),
    ],
)
def test_a_database_that_may_answer_later_is_told_from_one_that_refuses(reason: str, away: bool) -> None:
    assert check._away(OperationalError("SELECT 1", {}, Exception(reason)), served=False) == away
