"""The runs of a search in MLflow: one parent run, and one child run per trial and per baseline.

The store is a copy of the records. A `Mirror` compares the store with the records and writes the difference. Nothing is
lost or doubled in a store that was unreachable, came back empty, or carried out a request after a timeout.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from etarec.config import UserError
from search.records.records import Records
from search.records.states import State
from search.records.trial import Trial
from search.spec import flat
from search.track.attachments import Attachments
from search.track.companions import baselines_of, data_of
from search.track.runs import Runs
from search.track.store import connect, experiment_id, explained
from search.track.wanted import (
    BASELINE_TAG,
    Copy,
    Outcome,
    Wanted,
    idle_metrics,
    points,
    search_name,
    storable,
    trial_name,
    version,
    wanted_of,
    wanted_of_baseline,
    without_idle,
)

MAX_PASSES = 4  # over all runs at the end of a search, until a pass finds nothing to change
SEARCH_TAG = "etarec.search"
EARLIER_TAG = "started_from"  # earlier searches, in words


class Mirror:
    """The runs of one search in the store. `write` and `end` can be repeated and change only what differs.

    Args:
        experiment: the name of the experiment in MLflow.
        records: the trials, to which run ids are added.
        parameters: the parameters of the parent run, maybe nested.
        answered: called after each answer of the store, with True if the request wrote something. An exception that it
            raises ends `write` or `end`.

    Raises (`write` and `end`):
        UserError: the store refuses, for a reason that only the user can change.
        Exception: any other failure of a store that is unreachable or overloaded.
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
        self._runs: Runs | None = None  # None until they are found, and again after a failure
        self._parent: Copy | None = None
        self._children: dict[str, Copy] = {}  # by trial id
        self._written: dict[int, tuple[State, float, float]] = {}
        self._idle: frozenset[str] = frozenset()

    def write(self) -> None:
        """Bring the runs of all trials up to date while the search runs."""
        with explained():
            try:
                if self._runs is None:
                    self._find_runs()
                else:
                    self._runs.client.get_run(self.records.parent_run_id)  # raises where the store came back empty
                    self.answered(False)
                self._bring_search(None)
                trials = self.records.snapshot()
                self._idle = idle_metrics(trials)
                for trial in trials:
                    if self._written.get(trial.number) != version(trial):
                        self._bring_trial(trial, None)
            except BaseException:
                self._runs = None
                raise

    def end(self, outcome: Outcome) -> None:
        """Write everything that is missing and end the parent run, until a pass over all runs changes nothing."""
        self._runs = None
        with explained():
            for _ in range(MAX_PASSES):
                self._find_runs()
                trials = self.records.snapshot()
                self._idle = idle_metrics(trials)
                changes = [self._bring_trial(trial, outcome) for trial in trials]
                changes += self._bring_baselines(outcome)
                changes += [self._close_orphan(name) for name in self._children.keys() - self._trial_ids()]
                self.records.write_table()
                changes.append(self._bring_search(outcome))
                if not any(changes):
                    break
            if outcome.artifacts:
                self._attach(outcome.artifacts)
                self._log_model(outcome)

    def _attach(self, folder: Path) -> None:
        assert self._runs is not None and self._parent is not None
        attached = Attachments(self._runs.client, self._parent, self.answered)
        if attached.log_data(data_of(folder)) | attached.upload(folder):
            self.changed.add("search")

    def _log_model(self, outcome: Outcome) -> None:
        """Log the chosen configuration as a model of the parent run, unless the run has it."""
        if not outcome.chosen.get("adapt") or outcome.artifacts is None:
            return
        assert self._runs is not None and self._parent is not None
        from etarec import serving  # imports torch, and the next one much of MLflow: only where there is a model

        try:
            found = serving.read(outcome.artifacts)
            from search.track import model

            logged = model.log(self._runs.client, self._parent.run_id, found)
        except UserError:  # its checkpoint, or the code of a class of the user's own, is not there
            return
        if logged:
            self.answered(True)
            self.changed.add("search")

    def _trial_ids(self) -> set[str]:
        return {trial.trial_id for trial in self.records.snapshot()}

    def _find_runs(self) -> None:
        """Find the experiment, the parent run and its children; create the experiment and the parent if missing."""
        client = connect()
        self._written = {}
        runs = Runs(client, self._known_experiment(client) or experiment_id(client, self.experiment), self.answered)
        self._runs = runs
        self.answered(False)
        found = runs.only(runs.tagged(SEARCH_TAG, self.records.identity), self.records.parent_run_id)
        self._parent = found or self._create_search()
        if self._parent.run_id != self.records.parent_run_id:
            self._adopt(self.records.parent_run_id, self._parent.run_id)
            self.records.parent_tracked(self._parent.run_id)
        known = {trial.trial_id: trial.mlflow_run_id for trial in self.records.snapshot()}
        children: dict[str, list[Run]] = {}
        for run in runs.tagged(MLFLOW_PARENT_RUN_ID, self._parent.run_id):
            children.setdefault(run.data.tags.get("trial_id", ""), []).append(run)
        copies = {name: runs.only(several, known.get(name, "")) for name, several in children.items()}
        self._children = {name: copy for name, copy in copies.items() if copy}

    def _create_search(self) -> Copy:
        began = self._began()
        name = search_name(self.experiment, self.parameters, began)
        sources = "; ".join(map(str, self.records.sources))
        tags = {SEARCH_TAG: self.records.identity} | ({EARLIER_TAG: storable(sources)} if sources else {})
        return self._create("search", name, tags, began)

    def _adopt(self, former: str, parent: str) -> None:
        """Move the children of a parent run that was deleted to the new parent run."""
        assert self._runs is not None
        for run in self._runs.tagged(MLFLOW_PARENT_RUN_ID, former) if former else []:
            self._runs.move(run.info.run_id, parent)

    def _known_experiment(self, client: MlflowClient) -> str | None:
        """The id of the parent run's experiment, which may have been renamed since."""
        if not self.records.parent_run_id:
            return None
        try:
            run = client.get_run(self.records.parent_run_id)
        except MlflowException as error:
            # A server with users answers PERMISSION_DENIED for a missing run, except to its administrator.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
                raise
            return None
        ours = run.info.lifecycle_stage == "active" and run.data.tags.get(SEARCH_TAG) == self.records.identity
        return run.info.experiment_id if ours else None

    def _began(self) -> float:
        return min((trial.began for trial in self.records.snapshot() if not trial.source), default=0.0)

    def _bring_search(self, outcome: Outcome | None) -> bool:
        assert self._parent is not None
        if outcome is None:
            return self._bring("search", self._parent, Wanted(State.RUNNING, self.parameters))
        known = without_idle(outcome.all_metrics, frozenset(f"chosen_test_{name}" for name in self._idle))
        metrics, params = points(known, outcome.moment), {**self.parameters, **outcome.params}
        wanted = Wanted(outcome.state, params, metrics, outcome.tags, end=outcome.moment)
        return self._bring("search", self._parent, wanted)

    def _bring_trial(self, trial: Trial, outcome: Outcome | None) -> bool:
        copy = self._child(trial.trial_id, trial_name(trial), {}, trial.began)
        if copy.run_id != trial.mlflow_run_id:
            self.records.tracked(trial.number, copy.run_id)
        changed = self._bring(trial.trial_id, copy, wanted_of(trial, copy.began, outcome, self._idle))
        self._written[trial.number] = version(trial)
        return changed

    def _bring_baselines(self, outcome: Outcome) -> list[bool]:
        """A run per baseline in the files; the run of one that a longer search has replaced is deleted."""
        wanted = baselines_of(outcome.artifacts) if outcome.artifacts else {}
        assert self._runs is not None
        for name in [name for name, copy in self._children.items() if BASELINE_TAG in copy.tags and name not in wanted]:
            self._runs.delete(self._children.pop(name).run_id)
        return [
            self._bring(
                name,
                self._child(name, name, {BASELINE_TAG: name}),
                wanted_of_baseline(name, one, outcome.moment, self._idle),
            )
            for name, one in wanted.items()
        ]

    def _child(self, name: str, title: str, tags: Mapping[str, str], began: float = 0.0) -> Copy:
        """The run of a trial or baseline, created if it is missing."""
        assert self._parent is not None
        if name not in self._children:
            all_tags = {MLFLOW_PARENT_RUN_ID: self._parent.run_id, "trial_id": name, **tags}
            self._children[name] = self._create(name, title, all_tags, began or self._began())
        return self._children[name]

    def _create(self, name: str, title: str, tags: Mapping[str, str], began: float) -> Copy:
        """Create a run. `name` is the trial id, or `search` for the parent."""
        assert self._runs is not None
        copy = self._runs.create(title, tags, began)
        self.created.add(name)
        return copy

    def _close_orphan(self, name: str) -> bool:
        """End a run of this search whose trial is not in the records."""
        copy = self._children[name]
        return copy.status == State.RUNNING and self._bring(name, copy, Wanted(State.KILLED))

    def _bring(self, name: str, copy: Copy, wanted: Wanted) -> bool:
        """Write what the run lacks. True if it lacked anything."""
        assert self._runs is not None
        if not self._runs.complete(copy, wanted):
            return False
        self.changed.add(name)
        return True
