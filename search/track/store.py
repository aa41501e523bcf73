"""The store named by MLFLOW_TRACKING_URI: opening it, showing its address, and putting its errors into words."""

import fcntl
import getpass
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from etarec.config import UserError
from search.redact import redacted, shown_uri
from search.track.views import VIEW_TAGS

logging.getLogger("mlflow").setLevel(logging.ERROR)  # callers of this module tell the user what matters

# MLflow's own retries take minutes and may create a run twice. `Mirror` repeats a request after looking at the store.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a trial

# MLflow's UI chooses its pages and columns by these tags.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development", **VIEW_TAGS}


def connect() -> MlflowClient:
    """A client of the store. Its constructor creates the tables of an empty SQLite store."""
    with _alone(mlflow.get_tracking_uri()):
        return MlflowClient()


def store_address() -> str:
    """The address of the store, without a password."""
    return shown_uri(mlflow.get_tracking_uri())


def first_line(error: BaseException) -> str:
    """The cause of an error on one line, without a password. It is not cut: MLflow's messages end with the cure."""
    text = redacted(str(error).strip(), mlflow.get_tracking_uri()) or type(error).__name__
    if isinstance(error, MlflowException) and (cause := re.search(r"failed with (?:timeout )?exception (.*)", text)):
        closed, late = "refused" in cause[1], "timed out" in cause[1] or "timeout" in text
        text = "connection refused" if closed else "no answer in time" if late else text
    return text.splitlines()[0]


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors that only the user can mend into UserErrors."""
    try:
        yield
    except MlflowException as error:
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if status == 401:
            raise UserError(
                f"MLflow at {store_address()} does not accept the user or password; set MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD"
            ) from error
        if status == 403:
            raise UserError(
                f"MLflow at {store_address()} denies access ({first_line(error)}); ask for the permission EDIT on the "
                "experiment, or give the search another name"
            ) from error
        raise


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment of this name, which is created if missing and given EXPERIMENT_TAGS."""
    with _alone(mlflow.get_tracking_uri()):
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, tags=EXPERIMENT_TAGS))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another search has just created it
    assert found is not None
    check_active(name, str(found.experiment_id), found.lifecycle_stage)
    for key, value in EXPERIMENT_TAGS.items() - found.tags.items():
        client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def check_active(name: str, number: str, stage: str) -> None:
    """Raise UserError if the experiment was deleted."""
    if stage != "active":
        raise UserError(
            f"the experiment '{name}' was deleted in MLflow ({store_address()}); bring it back with `mlflow "
            f"experiments restore --experiment-id {number}`, or give the search another name"
        )


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for another store, and for one in memory or with SQLite's own URI."""
    name = unquote(uri.partition("?")[0].removeprefix("sqlite:///"))
    return (
        None if not uri.startswith("sqlite:///") or name in ("", ":memory:") or name.startswith("file:") else Path(name)
    )


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store: two that create its tables at once damage it for good.

    The lock is on the database's folder, so that no lock file is left behind.
    """
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def milliseconds(moment: float) -> int | None:
    """A time stamp of MLflow; None for a moment of 0, which stands for now."""
    return round(moment * 1000) or None


def user() -> str:
    """The name of the person who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # some containers run under a user id without a name
        return "unknown"
