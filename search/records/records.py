"""The trials of a search on disk: the files are the truth, and Optuna's study and MLflow can be rebuilt from them.

`Records` is the journal's content in memory. `trials.csv` is the same as a table for people and pandas; it is written
less often than the journal, because its writing takes longer the more trials there are.
"""

import json
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from etarec.config import UserError
from etarec.disk import write_whole
from search.records import csv_text, journal, trials_table
from search.records.journal import JOURNAL
from search.records.start import Source, Start, changed_settings, other_than_software, searched_fields
from search.records.states import State
from search.records.trial import Anchor, Trial
from search.records.trials_table import COLUMNS

TABLE_SHARE = 0.05  # of a search's time, at most, goes into writing trials.csv


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
        changes = changed_settings(self.settings, settings) if self.identity else []
        if changes and searched_fields(self.settings) != searched_fields(settings):
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
        """The rows of trials.csv: every trial, failed ones included."""
        return trials_table.of_trials([trial for _, trial in sorted(self.trials.items())])

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
                self.mixed |= other_than_software(self.settings, event["settings"])
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
                if taken := COLUMNS & event["parameters"].keys():
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


def _plain(text: str) -> str:
    """The text in characters that UTF-8 can encode: the name of a file in an error may hold half a surrogate pair."""
    return text.encode(errors="replace").decode()
