"""MLflow: one parent run per search, one child run per trial. The only file that knows MLflow.

The store is a copy of the records. A `Mirror` looks at what the store holds and writes the difference, so that nothing
is lost or doubled in a store that was away, came back empty, or took a request after its sender had given up on it.
"""

import fcntl
import getpass
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from etarec.config import UserError
from search.records import Records, State, Trial
from search.redact import redacted, shown_uri
from search.spec import flat
from search.track.wanted import Copy, Difference, Outcome, Wanted, points, version, wanted_of

logging.getLogger("mlflow").setLevel(logging.ERROR)  # what matters to the user is said by the caller

# Repeating is done here, after a look at what the store holds: MLflow's own creates a run twice, and takes minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a trial

MOST_LOOKS = 4
SEARCH_TAG = "etarec.search"
ARTIFACTS_TAG = "etarec.artifacts"
ARTIFACT_TYPES = {".yaml", ".json", ".jsonl", ".csv", ".html", ".md", ".png"}
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the pages that MLflow's UI opens it with


class Mirror:
    """The runs of one search. `write` and `end` may be repeated and change only what differs from the records.

    answered: called whenever the store has answered, with True if something was written; what it raises ends the work.
    experiment, parameters: the name and the parameters, maybe nested, of the search.

    Raises (`write`, `end`):
        UserError: the store refuses what only the user can change.
        Exception: anything else that a store that is away or overrun comes to.
    """

    def __init__(
        self,
        experiment: str,
        records: Records,
        parameters: Mapping[str, Any],
        answered: Callable[[bool], None] = lambda wrote: None,
    ):
        self.experiment, self.records, self.parameters, self.answered = experiment, records, flat(parameters), answered
        self.changed: set[str] = set()  # trial ids, and "search" for the parent run
        self.created: set[str] = set()
        self._client: mlflow.MlflowClient | None = None
        self._experiment_id = ""
        self._parent: Copy | None = None
        self._runs: dict[str, Copy] = {}  # by trial id
        self._written: dict[int, tuple[State, float, float]] = {}

    def write(self) -> None:
        """Brings all trials' runs up to the records while the search runs."""
        with _explained():
            try:
                if self._client is None:
                    self._look()
                else:
                    self._client.get_run(self.records.parent_run_id)  # a store that came back empty is noticed here
                    self.answered(False)
                self._bring_search(None)
                for trial in self.records.snapshot():
                    if self._written.get(trial.number) != version(trial):
                        self._bring_trial(trial, None)
            except BaseException:
                self._client = None
                raise

    def end(self, outcome: Outcome) -> None:
        """Writes all that is left and ends the parent run; the last look finds nothing to change any more."""
        self._client = None
        with _explained():
            for _ in range(MOST_LOOKS):
                self._look()
                changes = [self._bring_trial(trial, outcome) for trial in self.records.snapshot()]
                changes += [self._close_orphan(name) for name in self._runs.keys() - self._trial_ids()]
                self.records.write_table()
                changes.append(self._bring_search(outcome))
                if not any(changes):
                    break
            if outcome.artifacts:
                self._upload(outcome.artifacts)

    def _trial_ids(self) -> set[str]:
        return {trial.trial_id for trial in self.records.snapshot()}

    def _look(self) -> None:
        """Finds the experiment, the parent run and its children, and makes what is not there."""
        with _alone(mlflow.get_tracking_uri()):  # the client opens its store at once
            client = self._client = mlflow.MlflowClient()
        self._written = {}
        self._experiment_id = self._known_experiment(client) or _experiment(client, self.experiment)
        self.answered(False)
        parents = self._search(SEARCH_TAG, self.records.identity)
        self._parent = self._only(parents, self.records.parent_run_id) or self._create("search", {}, self._began())
        if self._parent.run_id != self.records.parent_run_id:
            self._adopt(self.records.parent_run_id, self._parent.run_id)
            self.records.parent_tracked(self._parent.run_id)
        known = {trial.trial_id: trial.mlflow_run_id for trial in self.records.snapshot()}
        children: dict[str, list[Run]] = {}
        for run in self._search(MLFLOW_PARENT_RUN_ID, self._parent.run_id):
            children.setdefault(run.data.tags.get("trial_id", ""), []).append(run)
        found = {name: self._only(runs, known.get(name, "")) for name, runs in children.items()}
        self._runs = {name: copy for name, copy in found.items() if copy}

    def _adopt(self, former: str, parent: str) -> None:
        """The children of a parent run that was deleted without them."""
        assert self._client is not None
        for run in self._search(MLFLOW_PARENT_RUN_ID, former) if former else []:
            self._client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent)
            self.answered(True)

    def _known_experiment(self, client: mlflow.MlflowClient) -> str | None:
        """By the parent run's id it is found under whatever name it bears by now."""
        if not self.records.parent_run_id:
            return None
        try:
            run = client.get_run(self.records.parent_run_id)
        except MlflowException as error:
            # A server with users forbids what is not there to whoever is not its administrator.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
                raise
            return None
        ours = run.info.lifecycle_stage == "active" and run.data.tags.get(SEARCH_TAG) == self.records.identity
        return run.info.experiment_id if ours else None

    def _search(self, tag: str, value: str) -> list[Run]:
        assert self._client is not None
        runs: list[Run] = []
        token = None
        while True:
            query = f"tags.`{tag}` = '{value}'"
            page = self._client.search_runs([self._experiment_id], query, max_results=1000, page_token=token)
            self.answered(False)
            runs += page
            token = page.token
            if not token:
                return runs

    def _only(self, runs: list[Run], known: str) -> Copy | None:
        """One of several runs of the same thing: a request may be carried out long after its sender gave up on it."""
        assert self._client is not None
        runs = sorted(runs, key=lambda run: (run.info.run_id != known, run.info.start_time, run.info.run_id))
        for extra in runs[1:]:
            for run in [*self._search(MLFLOW_PARENT_RUN_ID, extra.info.run_id), extra]:
                self._client.delete_run(run.info.run_id)
                self.answered(True)
        return _copy(runs[0]) if runs else None

    def _began(self) -> float:
        return min((trial.began for trial in self.records.snapshot()), default=0.0)

    def _create(self, name: str, tags: Mapping[str, str], began: float) -> Copy:
        assert self._client is not None
        common = {MLFLOW_SOURCE_NAME: "search.tune", MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: _user()}
        own = tags or {SEARCH_TAG: self.records.identity}
        run = self._client.create_run(self._experiment_id, _milliseconds(began), {**common, **own}, run_name=name)
        self.answered(True)
        self.created.add(name)
        return _copy(run)

    def _bring_search(self, outcome: Outcome | None) -> bool:
        assert self._parent is not None
        if outcome is None:
            return self._bring("search", self._parent, Wanted(State.RUNNING, self.parameters))
        metrics = points(outcome.metrics, outcome.moment)
        return self._bring("search", self._parent, Wanted(outcome.state, self.parameters, metrics, end=outcome.moment))

    def _bring_trial(self, trial: Trial, outcome: Outcome | None) -> bool:
        copy = self._runs.get(trial.trial_id)
        if copy is None:
            assert self._parent is not None
            tags = {MLFLOW_PARENT_RUN_ID: self._parent.run_id, "trial_id": trial.trial_id}
            copy = self._runs[trial.trial_id] = self._create(trial.trial_id, tags, trial.began)
        if copy.run_id != trial.mlflow_run_id:
            self.records.tracked(trial.number, copy.run_id)
        changed = self._bring(trial.trial_id, copy, wanted_of(trial, copy.began, outcome))
        self._written[trial.number] = version(trial)
        return changed

    def _close_orphan(self, name: str) -> bool:
        """A run of this search that the records know nothing of."""
        copy = self._runs[name]
        return copy.status == State.RUNNING and self._bring(name, copy, Wanted(State.KILLED))

    def _bring(self, name: str, copy: Copy, wanted: Wanted) -> bool:
        """Writes what the run lacks; whether it lacked anything."""
        assert self._client is not None
        lacking = list(copy.lacks(wanted))
        for batch in lacking:
            self._client.log_batch(copy.run_id, *_entities(batch))
            self.answered(True)
            copy.took(batch)
        unwanted = [key for key in wanted.unwanted if key in copy.tags]
        for key in unwanted:
            self._client.delete_tag(copy.run_id, key)
            self.answered(True)
            del copy.tags[key]
        in_state = copy.status == wanted.state
        if not in_state:
            self._set_state(copy, wanted)
        if lacking or unwanted or not in_state:
            self.changed.add(name)
            return True
        return False

    def _set_state(self, copy: Copy, wanted: Wanted) -> None:
        assert self._client is not None
        if wanted.state is State.RUNNING:
            self._client.update_run(copy.run_id, status=str(wanted.state))
        else:
            self._client.set_terminated(copy.run_id, str(wanted.state), _milliseconds(wanted.end))
        self.answered(True)
        copy.status = str(wanted.state)

    def _upload(self, folder: Path) -> None:
        """The parent's artifacts, if they are not there with the same content."""
        assert self._client is not None and self._parent is not None
        files = [file for file in sorted(folder.iterdir()) if _is_artifact(file)]
        content = hashlib.sha256()
        for file in files:
            content.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        run_id = self._parent.run_id
        there = {artifact.path for artifact in self._client.list_artifacts(run_id)}
        self.answered(False)
        if self._parent.tags.get(ARTIFACTS_TAG) == content.hexdigest() and there >= {file.name for file in files}:
            return
        for file in files:
            self._client.log_artifact(run_id, str(file))
            self.answered(True)
        self._client.set_tag(run_id, ARTIFACTS_TAG, content.hexdigest())
        self.changed.add("search")


def _copy(run: Run) -> Copy:
    info, data = run.info, run.data
    return Copy(
        info.run_id, info.start_time / 1000, info.status, dict(data.params), dict(data.metrics), dict(data.tags)
    )


def _entities(batch: Difference) -> tuple[list[Metric], list[Param], list[RunTag]]:
    metrics = [Metric(point.name, point.value, round(point.moment * 1000), point.step) for point in batch.metrics]
    return metrics, list(starmap(Param, batch.params.items())), list(starmap(RunTag, batch.tags.items()))


def store_address() -> str:
    """Where MLflow writes to, without a password."""
    return shown_uri(mlflow.get_tracking_uri())


def first_line(error: BaseException) -> str:
    """What went wrong, short and without a password."""
    text = redacted(str(error).strip(), mlflow.get_tracking_uri()) or type(error).__name__
    if isinstance(error, MlflowException) and (cause := re.search(r"failed with (?:timeout )?exception (.*)", text)):
        closed, late = "refused" in cause[1], "timed out" in cause[1] or "timeout" in text
        text = "connection refused" if closed else "no answer in time" if late else text
    line = text.splitlines()[0]
    return line if isinstance(error, UserError) else line[:200]


@contextmanager
def _explained() -> Iterator[None]:
    """What only the user can change is said in words."""
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
                f"MLflow at {store_address()} forbids it ({first_line(error)}); ask for the permission EDIT on the "
                "experiment, or give the search another name"
            ) from error
        raise


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    """The id of the experiment, which is made if it is not there."""
    with _alone(mlflow.get_tracking_uri()):
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, tags=EXPERIMENT_TAGS))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another search was faster
    assert found is not None
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the experiment '{name}' was deleted in MLflow ({store_address()}); bring it back with `mlflow "
            f"experiments restore --experiment-id {found.experiment_id}`, or give the search another name"
        )
    return str(found.experiment_id)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time: who opens a SQLite store first makes its tables, and two at once break it for good.

    The lock lies on the folder of the database, so that no file of it is left.
    """
    file = unquote(uri.partition("?")[0].removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or file in ("", ":memory:"):
        yield
        return
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(Path(file).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _is_artifact(file: Path) -> bool:
    return file.is_file() and file.suffix in ARTIFACT_TYPES and not file.name.startswith(".")


def _milliseconds(moment: float) -> int | None:
    return round(moment * 1000) or None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this machine, as in some containers
        return "unknown"
