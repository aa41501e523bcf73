"""The trials of a search on disk: the files are the truth, and Optuna's study and MLflow can be rebuilt from them.

`Records` is the journal's content in memory. `trials.csv` is the same as a table for people and pandas; it is written
less often than the journal, because its writing takes longer the more trials there are.
"""

import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from etarec.command_line import INTERRUPTED
from etarec.config import SKIPPED, Reason, UserError
from etarec.disk import write_whole
from etarec.metrics import COSTS, QUALITY_METRICS, SECONDS
from search import csv_text, journal
from search.journal import JOURNAL

METRICS = (*QUALITY_METRICS, "filter_rate", *(reason.column for reason in SKIPPED), *COSTS, *SECONDS)
_COLUMNS = {"trial_id", "state", *METRICS, "mlflow_run_id", "error", "traceback"}
TABLE_SHARE = 0.05  # of a search's time, at most, goes into writing trials.csv
# The two tests of the published gate always have a column, the other reasons only where a sample was skipped for them.
_ALWAYS_SHOWN = {Reason.ENTROPY.column, Reason.REDUNDANCY.column}


class State(StrEnum):
    """The state of a trial, by the names of MLflow's run states, and PRUNED."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    PRUNED = "PRUNED"  # ended early because it could not win; MLflow has no such state
    FAILED = "FAILED"
    KILLED = "KILLED"


ENDED = (State.FINISHED, State.PRUNED, State.FAILED)  # a resumed search does not repeat these trials


class Ending(StrEnum):
    """The reason why a search has measured its last trial."""

    COMPLETE = "complete"
    CONVERGED = "no trial is expected to add much"
    OUT_OF_TIME = "its time is up"
    INTERRUPTED = "interrupted"
    FAILING = "too many failed trials in a row"
    ALL_FAILED = "every trial failed"

    @property
    def exit_status(self) -> int:
        return 0 if self.whole else INTERRUPTED if self is Ending.INTERRUPTED else 1

    @property
    def whole(self) -> bool:
        """Whether the search came to its own end, so that its front is measured on test."""
        return self in (Ending.COMPLETE, Ending.CONVERGED, Ending.OUT_OF_TIME)


PARENT_STATES = {
    Ending.COMPLETE: State.FINISHED,
    Ending.CONVERGED: State.FINISHED,
    Ending.OUT_OF_TIME: State.FINISHED,
    Ending.INTERRUPTED: State.KILLED,
    Ending.FAILING: State.FAILED,
    Ending.ALL_FAILED: State.FAILED,
}


@dataclass
class Trial:
    """One configuration and its outcome. `number` counts from 0: first the trials taken from earlier searches, then the
    searcher's suggestions."""

    number: int
    parameters: dict[str, Any]
    state: State = State.RUNNING
    metrics: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    outcomes: str = ""  # see search/selection/paired.py
    mlflow_run_id: str = ""
    retries: int = 0  # attempts that ended without a result and were repeated
    source: str = ""  # where an earlier search measured it: FOLDER/TRIAL; empty for a trial of this search
    began: float = field(default=0.0, compare=False)  # seconds since 1970
    ended: float = field(default=0.0, compare=False)

    @property
    def trial_id(self) -> str:
        return trial_id(self.number)


@dataclass(frozen=True)
class Anchor:
    """A fixed configuration that was measured before the trials; `metrics` are empty if its measurement failed."""

    name: str
    adapt: dict[str, Any]
    metrics: dict[str, float]
    outcomes: str = ""  # see search/selection/paired.py


@dataclass(frozen=True)
class Source:
    """An earlier search from which this one started.

    trials: number of its trials that were taken. first: number of its configurations that are tried first.
    """

    folder: str
    identity: str
    trials: int = 0
    first: int = 0

    def __str__(self) -> str:
        """30 trials of /home/ada/runs/mine"""
        count, what = (self.trials, "trial") if self.trials or not self.first else (self.first, "first trial")
        return f"{count} {what}{'s' * (count != 1)} {'of' if what == 'trial' else 'from the front of'} {self.folder}"


@dataclass(frozen=True)
class Start:
    """The trials taken from earlier searches, numbered from 0, and the parameters to try first."""

    trials: Sequence[Trial] = ()
    first: Sequence[dict[str, Any]] = ()
    sources: Sequence[Source] = ()


def trial_id(number: int) -> str:
    return f"trial-{number:04d}"


class Records:
    """The trials of one search, each change of which is written to the journal first.

    One process writes, on several threads: the searcher's and that of the MLflow mirror, which records run ids.

    Raises UserError where the journal is damaged.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.trials: dict[int, Trial] = {}
        self.anchors: dict[str, Anchor] = {}  # by name, in the order of their measurement
        self.users = ""  # of the validation stream's samples, see search/selection/paired.py
        self.parent_run_id = ""
        self._table_due = 0.0
        self._lock = threading.Lock()
        self._journal = directory / JOURNAL
        self.identity = ""  # of the search; a copied folder keeps it
        self.settings: dict[str, Any] = {}
        self.accepted: list[str] = []  # changed settings that the user accepted
        self.mixed: set[str] = set()  # their names, without those of code and packages
        self.sources: list[Source] = []
        self.first: list[dict[str, Any]] = []  # parameters from earlier searches to try first
        for number, line in enumerate(journal.lines(self._journal), start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self._journal}: line {number} is damaged ({error!r}); expected one JSON event a line"
                ) from error

    def begin(self, settings: Mapping[str, Any], accept_changes: bool = False, start: Start | None = None) -> list[str]:
        """Begin a search, or go on with the one in the journal if its settings are the same.

        The earlier trials are part of the first event, so a search that was killed never lacks some of them.

        Args:
            settings: everything that a trial's numbers or the suggestions depend on, by name; a value may be a
                mapping, such as the digests of the source files.
            accept_changes: go on with other settings, and record them in the journal.
            start: trials of earlier searches, for a search that begins.

        Returns:
            The changed settings that were accepted, in words.

        Raises:
            UserError: a setting has changed and that is not accepted, or the searched fields have changed.
        """
        if not self.identity:
            earlier = asdict(start) if start and start.sources else {}
            self._append({"event": "search", "identity": uuid.uuid4().hex, "settings": dict(settings), **earlier})
        changes = self.check(settings, accept_changes)
        if changes:
            self._append({"event": "accepted", "changes": changes, "settings": dict(settings)})
        return changes

    def check(self, settings: Mapping[str, Any], accept_changes: bool = False) -> list[str]:
        """Compare with the journal's settings as `begin` does, and write nothing."""
        changes = _changes(self.settings, settings) if self.identity else []
        if changes and _searched(self.settings) != _searched(settings):
            raise UserError(f"{self.directory}: --resume with other searched fields; " + "; ".join(changes))
        if changes and not accept_changes:
            raise UserError(
                f"{self.directory}: --resume with other settings than the search began with (--accept-changes resumes "
                "it all the same, and its earlier trials stay as they were measured); " + "; ".join(changes)
            )
        return changes

    def streaming(self, users: str) -> None:
        """Record the users of the validation stream's samples."""
        self._append({"event": "stream", "users": users})

    def anchored(self, anchor: Anchor) -> None:
        """Record a measurement made before the trials."""
        self._append({"event": "anchor", **vars(anchor)})

    def started(self, number: int, parameters: Mapping[str, Any]) -> None:
        self._append({"event": "started", "number": number, "parameters": dict(parameters)})

    def finished(
        self, number: int, metrics: Mapping[str, float], curve: Mapping[str, list[float]], outcomes: str = ""
    ) -> None:
        self._append(
            {
                "event": "ended",
                "number": number,
                "state": State.FINISHED,
                "metrics": dict(metrics),
                "curve": dict(curve),
                "outcomes": outcomes,
            }
        )

    def retried(self, number: int, error: str, traceback: str) -> None:
        """Record an attempt that ended for a reason outside the configuration; the trial runs again."""
        self._append({"event": "retried", "number": number, "error": _plain(error), "traceback": _plain(traceback)})

    def ended(self, number: int, state: State, error: str, traceback: str = "") -> None:
        """Record the end of a trial without a result: its state, PRUNED, FAILED or KILLED, and the reason."""
        texts = {"error": _plain(error), "traceback": _plain(traceback)}
        self._append({"event": "ended", "number": number, "state": state, **texts})

    def tracked(self, number: int, run_id: str) -> None:
        self._append({"event": "tracked", "number": number, "mlflow_run_id": run_id})

    def parent_tracked(self, run_id: str) -> None:
        self._append({"event": "parent_tracked", "mlflow_run_id": run_id})

    @property
    def taken(self) -> list[Trial]:
        """The trials of earlier searches, by number."""
        return [trial for trial in self.in_state(State.FINISHED) if trial.source]

    def in_state(self, *states: State) -> list[Trial]:
        """The trials in one of these states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    def snapshot(self) -> list[Trial]:
        """A copy of all trials at one moment, by number, for threads other than the writer's."""
        with self._lock:
            return [replace(trial) for _, trial in sorted(self.trials.items())]

    def table(self) -> pd.DataFrame:
        """trials.csv: a row per trial, failed ones included; a part of the filter rate that is always 0 has no column.

        The line ends of a traceback are written as \\n, so that the file has one line per trial.
        """
        trials = [trial for _, trial in sorted(self.trials.items())]
        parameters = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
        rows = [
            {
                "trial_id": trial.trial_id,
                "state": str(trial.state),
                **trial.parameters,
                **{name: trial.metrics.get(name) for name in METRICS},
                "mlflow_run_id": trial.mlflow_run_id,
                "error": trial.error,
                "traceback": trial.traceback.replace("\n", "\\n"),
                "source": trial.source,
            }
            for trial in trials
        ]
        columns = ["trial_id", "state", *parameters, *METRICS, "mlflow_run_id", "error", "traceback"]
        columns += ["source"] * any(trial.source for trial in trials)
        # As objects first: beside a null, pandas would make an integer a float.
        table = pd.DataFrame(rows, columns=columns, dtype=object)
        return without_idle_columns(table.astype(dict.fromkeys(METRICS, float)))

    def write_table(self) -> None:
        begin = time.monotonic()
        write_whole(self.directory / "trials.csv", csv_text.of_frame(self.table()))
        end = time.monotonic()
        self._table_due = end + (end - begin) / TABLE_SHARE

    def _append(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._apply(journal.append(self._journal, {**event, "time": round(time.time(), 3)}))
            if time.monotonic() >= self._table_due:
                self.write_table()

    def _apply(self, event: dict[str, Any]) -> None:
        number, moment = event.get("number", -1), event.get("time", 0.0)
        match event["event"]:
            case "search":
                self.identity, self.settings = event["identity"], event["settings"]
                self._start(event)
            case "accepted":
                self.mixed |= _other_than_software(self.settings, event["settings"])
                self.settings = event["settings"]
                self.accepted += event["changes"]
            case "parent_tracked":
                self.parent_run_id = event["mlflow_run_id"]
            case "anchor":
                outcomes = event.get("outcomes", "")
                self.anchors[event["name"]] = Anchor(event["name"], event["adapt"], event["metrics"], outcomes)
            case "stream":
                self.users = event["users"]
            case "started":
                if taken := _COLUMNS & event["parameters"].keys():
                    raise ValueError(f"a parameter has the name of a column of trials.csv: {min(taken)}")
                trial, before = Trial(number, event["parameters"], began=moment), self.trials.get(number)
                if before is not None:
                    trial.mlflow_run_id, trial.retries = before.mlflow_run_id, before.retries
                self.trials[number] = trial
            case "retried":
                self.trials[number].retries += 1
            case "ended":
                trial = self.trials[number]
                trial.state, trial.ended = State(event["state"]), moment
                trial.metrics, trial.curve = event.get("metrics", {}), event.get("curve", {})
                trial.outcomes = event.get("outcomes", "")
                trial.error, trial.traceback = event.get("error", ""), event.get("traceback", "")
            case "tracked":
                self.trials[number].mlflow_run_id = event["mlflow_run_id"]

    def _start(self, event: dict[str, Any]) -> None:
        taken = [Trial(**trial) for trial in event.get("trials", ())]
        self.trials = {trial.number: replace(trial, state=State(trial.state)) for trial in taken}
        self.first = event.get("first", [])
        self.sources = [Source(**source) for source in event.get("sources", ())]


def _other_than_software(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """The names of the changed settings, without those of code and packages."""
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    return changed - {"code", "packages"}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The changed settings in words. Of a group its changed members are named: source files, or package versions."""
    texts = []
    for name in sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        old, new = before.get(name), now.get(name)
        if isinstance(new, dict) and isinstance(old, dict):
            parts = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
            named = parts if name == "code" else (f"{part} {old.get(part)} -> {new.get(part)}" for part in parts)
            texts.append(f"{name} was changed: {', '.join(named)}")
        elif isinstance(new, dict):
            texts.append(f"{name}: was not recorded")
        else:
            texts.append(f"{name}: was {old}, now {new}")
    return texts


def _searched(settings: Mapping[str, Any]) -> set[str]:
    return {name.split(".")[1] for name in settings if name.startswith("space.")}


def _plain(text: str) -> str:
    """The text in characters that UTF-8 can encode: the name of a file in an error may hold half a surrogate pair."""
    return text.encode(errors="replace").decode()


def frequent_reason(errors: Iterable[str]) -> tuple[str, int]:
    """The most frequent reason of these errors, the first of several, and the number of errors with it."""
    return Counter(map(reason, errors)).most_common(1)[0]


def reason(error: str) -> str:
    """The line of an error that tells its cause: the last one of a traceback, otherwise the first."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return "no reason recorded"
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return line if len(line) <= 300 else line[:299] + "…"


def without_idle_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the parts of the filter rate that do not apply to this search, which are 0 in every row."""
    droppable = {reason.column for reason in SKIPPED} - _ALWAYS_SHOWN
    idle = [c for c in table.columns if re.sub("^(valid|test|rehearsal)_", "", c) in droppable]
    idle = [c for c in idle if not table[c].fillna(0).astype(float).any()]
    return table.drop(columns=idle)
