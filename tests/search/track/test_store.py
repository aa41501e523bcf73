"""The store that MLFLOW_TRACKING_URI names: its errors in words, its experiment, and its lock."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest
from made_up_store import Store
from mlflow.exceptions import MlflowException, RestException

from etarec.config import UserError
from search.track.store import EXPERIMENT_TAGS, connect, experiment_id, explained, first_line, store_address
from search.track.views import VIEW_TAGS

REFUSED = "API request failed with exception HTTPConnectionPool(host='x', port=9): Connection refused"
LATE = "API request failed with timeout exception HTTPConnectionPool(host='x', port=9): Read timed out."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MlflowException(REFUSED), "connection refused"),
        (MlflowException(LATE), "no answer in time"),
        (MlflowException("API request failed with exception something else"), "API request failed with exception "),
        (ValueError("first\nsecond"), "first"),
        (KeyError(), "KeyError"),
        (ConnectionError("no route to http://ada:hunter22@tracking"), "no route to http://"),
    ],
)
def test_an_error_is_one_line_without_a_password(monkeypatch: pytest.MonkeyPatch, error: Exception, line: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hunter22@tracking")
    assert first_line(error).startswith(line) and "hunter22" not in first_line(error)
    assert store_address() == "http://...@tracking"


def test_a_reason_is_told_in_full() -> None:
    """MLflow's message about an old schema ends with the cure, after more than 200 characters."""
    assert len(first_line(ValueError("x" * 500))) == 500


@pytest.mark.parametrize(
    ("code", "words"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "ask for the permission EDIT"), (500, None)]
)
def test_what_only_the_user_can_mend_is_a_message(code: int, words: str | None) -> None:
    codes = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 500: "INTERNAL_ERROR"}
    error = RestException({"error_code": codes[code], "message": "no"})
    with pytest.raises(UserError if words else RestException, match=words or "no"), explained():
        raise error


def test_an_experiment_is_made_once_and_found_again(store: Store) -> None:
    client = connect()
    made = experiment_id(client, "made-up")
    assert experiment_id(client, "made-up") == made
    assert client.get_experiment(made).tags.items() >= EXPERIMENT_TAGS.items()
    client.set_experiment_tag(made, next(iter(VIEW_TAGS)), "an older version's")
    assert experiment_id(client, "made-up") == made
    assert client.get_experiment(made).tags.items() >= EXPERIMENT_TAGS.items()


def test_an_experiment_that_another_search_makes_meanwhile_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    made, found = experiment_id(client, "made-up"), mlflow.MlflowClient.get_experiment_by_name
    answers = [lambda *given: None, found]  # it is not there at the first question
    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", lambda *given: answers.pop(0)(*given))
    assert experiment_id(client, "made-up") == made


def test_a_deleted_experiment_is_the_user_s_to_bring_back(store: Store) -> None:
    client = connect()
    made = experiment_id(client, "made-up")
    client.delete_experiment(made)
    with pytest.raises(UserError, match=f"mlflow experiments restore --experiment-id {made}`, or give the search"):
        experiment_id(client, "made-up")


def test_a_sqlite_store_is_opened_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a folder").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/a%20folder/mlflow.db")
    folder = os.open(tmp_path / "a folder", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    opening = threading.Thread(target=connect)
    opening.start()
    opening.join(0.5)
    assert opening.is_alive() and not any((tmp_path / "a folder").iterdir())
    os.close(folder)
    opening.join(60)
    assert not opening.is_alive() and (tmp_path / "a folder/mlflow.db").exists()


def test_mlflow_does_not_repeat_requests_by_itself_unless_the_user_says_so() -> None:
    code = "import os, search.track.store; print(os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'])"
    for given, retries in (({}, "0"), ({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}, "3")):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | given
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [retries]
