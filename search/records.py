"""Trials on disk: plain files are the truth; the study and MLflow are copies that can be made again from them.

`trials.jsonl` is a journal: an event a line, appended and flushed to disk before the event counts for anybody else. A
last line without its end is an event that never happened. `trials.csv` is the journal's table for people and pandas; it
follows a little later, because writing it takes longer the more trials there are.
"""

import fcntl
import json
import os
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from etarec.config import SKIPPED, Reason, UserError
from etarec.disk import write_whole
from etarec.metrics import QUALITY_METRICS, SECONDS

JOURNAL = "trials.jsonl"
METRICS = (*QUALITY_METRICS, "filter_rate", *(reason.column for reason in SKIPPED), *SECONDS)
TABLE_SHARE = 0.05  # of the time, at most, goes into trials.csv while trials run
# The two tests of the published gate always have a column, the other reasons only where a sample was skipped for them.
_ALWAYS_SHOWN = {Reason.ENTROPY.column, Reason.REDUNDANCY.column}


class State(StrEnum):
    """How a trial stands; the names are MLflow's run states."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Ending(StrEnum):
    """Why a search measures no more trials."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILING = "too many failed trials in a row"
    ALL_FAILED = "every trial failed"

    @property
    def exit_status(self) -> int:
        return {Ending.COMPLETE: 0, Ending.INTERRUPTED: 130}.get(self, 1)


PARENT_STATES = {
    Ending.COMPLETE: State.FINISHED,
    Ending.INTERRUPTED: State.KILLED,
    Ending.FAILING: State.FAILED,
    Ending.ALL_FAILED: State.FAILED,
}


@dataclass
class Trial:
    """One configuration. Its number is its place among the searcher's suggestions."""

    number: int
    parameters: dict[str, Any]
    state: State = State.RUNNING
    metrics: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    mlflow_run_id: str = ""
    retries: int = 0  # attempts that died without a result
    began: float = field(default=0.0, compare=False)  # seconds since 1970
    ended: float = field(default=0.0, compare=False)

    @property
    def trial_id(self) -> str:
        return trial_id(self.number)


def trial_id(number: int) -> str:
    return f"trial-{number:04d}"


class Records:
    """The trials of one search. One process writes."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.trials: dict[int, Trial] = {}
        self.parent_run_id = ""
        self._table_due = 0.0
        self._lock = threading.Lock()  # the tracker's thread writes run ids
        self._journal = directory / JOURNAL
        self.identity = ""  # of the search, wherever its folder goes
        self.settings: dict[str, Any] = {}
        self.accepted: list[str] = []  # changes of settings
        for number, line in enumerate(_lines(self._journal), start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self._journal}: line {number} is damaged ({error!r}); expected one JSON event a line"
                ) from error

    def begin(self, settings: Mapping[str, Any], accept_changes: bool = False) -> list[str]:
        """Opens the journal of a new search; one that is there goes on if it has the same settings.

        settings: whatever a trial's numbers or the suggestions depend on, flat but for groups such as the digests of
        source files. Returns the changes that were accepted, which the journal then holds.

        Raises:
            UserError: a setting is another one; other searched fields are not accepted by any means.
        """
        if not self.identity:
            self._append({"event": "search", "identity": uuid.uuid4().hex, "settings": dict(settings)})
        changes = self.check(settings, accept_changes)
        if changes:
            self._append({"event": "accepted", "changes": changes, "settings": dict(settings)})
        return changes

    def check(self, settings: Mapping[str, Any], accept_changes: bool = False) -> list[str]:
        """What differs from the settings of the search that is there. Raises UserError unless that is accepted."""
        changes = _changes(self.settings, settings) if self.identity else []
        if changes and _searched(self.settings) != _searched(settings):
            raise UserError(f"{self.directory}: --resume with other searched fields; " + "; ".join(changes))
        if changes and not accept_changes:
            raise UserError(
                f"{self.directory}: --resume with other settings than the search began with (--accept-changes goes on "
                "with them, beside the trials that were measured before); " + "; ".join(changes)
            )
        return changes

    def started(self, number: int, parameters: Mapping[str, Any]) -> None:
        self._append({"event": "started", "number": number, "parameters": dict(parameters)})

    def finished(self, number: int, metrics: Mapping[str, float], curve: Mapping[str, list[float]]) -> None:
        self._append(
            {
                "event": "ended",
                "number": number,
                "state": State.FINISHED,
                "metrics": dict(metrics),
                "curve": dict(curve),
            }
        )

    def retried(self, number: int, error: str, traceback: str) -> None:
        """An attempt that had no result although the configuration may have one: the trial runs again."""
        self._append({"event": "retried", "number": number, "error": _plain(error), "traceback": _plain(traceback)})

    def ended(self, number: int, state: State, error: str, traceback: str = "") -> None:
        """A trial that has no result: FAILED or KILLED, and why."""
        texts = {"error": _plain(error), "traceback": _plain(traceback)}
        self._append({"event": "ended", "number": number, "state": state, **texts})

    def tracked(self, number: int, run_id: str) -> None:
        self._append({"event": "tracked", "number": number, "mlflow_run_id": run_id})

    def parent_tracked(self, run_id: str) -> None:
        self._append({"event": "parent_tracked", "mlflow_run_id": run_id})

    def in_state(self, *states: State) -> list[Trial]:
        """Trials in the order of their numbers."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    def snapshot(self) -> list[Trial]:
        """All trials as they are at one moment, in the order of their numbers; for another thread than the writer's."""
        with self._lock:
            return [replace(trial) for _, trial in sorted(self.trials.items())]

    def table(self) -> pd.DataFrame:
        """trials.csv: a row per trial, failed ones included; parts of the filter rate only where they apply.

        A traceback is one line, its line ends written as \\n, so that the file has one line per trial.
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
            }
            for trial in trials
        ]
        columns = ["trial_id", "state", *parameters, *METRICS, "mlflow_run_id", "error", "traceback"]
        # As objects first: beside a null, pandas would make an integer a float.
        table = pd.DataFrame(rows, columns=columns, dtype=object)
        return without_idle_columns(table.astype(dict.fromkeys(METRICS, float)))

    def write_table(self) -> None:
        begin = time.monotonic()
        write_whole(self.directory / "trials.csv", self.table().to_csv(index=False))
        end = time.monotonic()
        self._table_due = end + (end - begin) / TABLE_SHARE

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps({**event, "time": round(time.time(), 3)}, allow_nan=False) + "\n"
        with self._lock:
            with self._journal.open("ab+") as file:
                _cut_torn_line(file, self._journal)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self._apply(json.loads(line))
            if time.monotonic() >= self._table_due:
                self.write_table()

    def _apply(self, event: dict[str, Any]) -> None:
        number, moment = event.get("number", -1), event.get("time", 0.0)
        match event["event"]:
            case "search":
                self.identity, self.settings = event["identity"], event["settings"]
            case "accepted":
                self.settings = event["settings"]
                self.accepted += event["changes"]
            case "parent_tracked":
                self.parent_run_id = event["mlflow_run_id"]
            case "started":
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
                trial.error, trial.traceback = event.get("error", ""), event.get("traceback", "")
            case "tracked":
                self.trials[number].mlflow_run_id = event["mlflow_run_id"]


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, by name; of a group what differs in it: source files by their paths, packages by their versions."""
    texts = []
    for name in sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        old, new = before.get(name), now.get(name)
        if isinstance(new, dict) and isinstance(old, dict):
            parts = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
            shown = parts if name == "code" else (f"{part} {old.get(part)} -> {new.get(part)}" for part in parts)
            texts.append(f"{name} was changed: {', '.join(shown)}")
        elif isinstance(new, dict):
            texts.append(f"{name}: was not recorded")
        else:
            texts.append(f"{name}: was {old}, now {new}")
    return texts


def _searched(settings: Mapping[str, Any]) -> set[str]:
    return {name.split(".")[1] for name in settings if name.startswith("space.")}


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """No other process writes here for the time of the block; the lock of a killed one is gone with it.

    Raises:
        UserError: another process is writing.
    """
    journal = os.open(directory / JOURNAL, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{directory}: a search is still running here; wait for its end, or stop it") from error
        yield
    finally:
        os.close(journal)


def _plain(text: str) -> str:
    """What can be written as UTF-8: an exception's text may hold half a surrogate pair, of a file's name, say."""
    return text.encode(errors="replace").decode()


def _lines(journal: Path) -> list[bytes]:
    if not journal.exists():
        return []
    return journal.read_bytes().split(b"\n")[:-1]  # behind the last line's end there is nothing, or a torn line


def _cut_torn_line(file: BinaryIO, journal: Path) -> None:
    size = file.seek(0, os.SEEK_END)
    if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
        file.truncate(journal.read_bytes().rfind(b"\n") + 1)


def frequent_reason(errors: Iterable[str]) -> tuple[str, int]:
    """The reason that most of the errors have, the first of several, and how many have it."""
    return Counter(map(reason, errors)).most_common(1)[0]


def reason(error: str) -> str:
    """The line of an error that says what happened: the last one of a traceback, otherwise the first."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return "no reason recorded"
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return line if len(line) <= 300 else line[:299] + "…"


def without_idle_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Leaves out the parts of the filter rate that this search has no use for (never anything but 0)."""
    droppable = {reason.column for reason in SKIPPED} - _ALWAYS_SHOWN
    idle = [c for c in table.columns if re.sub("^(valid|test|rehearsal)_", "", c) in droppable]
    idle = [c for c in idle if not table[c].fillna(0).astype(float).any()]
    return table.drop(columns=idle)
