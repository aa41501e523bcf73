"""Copies the records to MLflow during a search, on a thread: a slow or absent tracking server never delays a trial."""

import shlex
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etarec.command_line import short_path
from etarec.config import UserError
from search.records.records import Records
from search.records.states import State
from search.track.mirror import Mirror
from search.track.store import first_line
from search.track.wanted import Outcome

RETRY_SECONDS = 5.0
MAX_PATIENCES = 10  # a store that keeps making progress gets this many times the patience in all


class _GivenUp(Exception):  # noqa: N818  # not an error: the search ends without the store
    """The thread has to stop: `close` has waited long enough."""


class Tracker:
    """Keeps the MLflow runs of one search up to date. All public methods but `close` return at once.

    Args:
        experiment: the name of the experiment in MLflow.
        records: the trials.
        parameters: the parameters of the search's own run, maybe nested.
        warn: shows a message to the user.
    """

    def __init__(self, experiment: str, records: Records, parameters: Mapping[str, Any], warn: Callable[[str], None]):
        self.records, self.warn = records, warn
        self._mirror = Mirror(experiment, records, parameters, self._answered)
        self._outcome: Outcome | None = None
        self._trouble = ""
        self._failures = 0
        self._progress = time.monotonic()
        self._changed, self._closing, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._changed.set()
        self._thread.start()

    def update(self) -> None:
        """Tell the thread that the records have changed."""
        self._changed.set()

    def close(
        self,
        state: State,
        metrics: Mapping[str, float],
        front: Mapping[str, Mapping[str, float]] | None,
        artifacts: Path | None,
        patience: float = 60.0,
        chosen: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write everything that is missing and end the search's run. False if the store refuses or stands still.

        Args:
            state: the state of the search's run.
            metrics: its metrics.
            front: test metrics of each front trial, as in `Outcome`.
            artifacts: the folder of its artifacts.
            patience: seconds without progress after which the store is given up. With progress, ten times as many in
                all.
            chosen: the content of chosen.yaml.
        """
        begin = self._progress = time.monotonic()
        self._outcome = Outcome(state, metrics, front, artifacts, chosen=chosen or {})
        self._closing.set()
        self._changed.set()
        while self._thread.is_alive():
            self._thread.join(0.1)
            if time.monotonic() > min(self._progress + patience, begin + MAX_PATIENCES * patience):
                self._given_up.set()
                self._thread.join(1)
                break
        else:
            if not self._given_up.is_set():
                return True
        self.warn(
            f"MLflow is not up to date ({self._trouble or 'no answer in time'}); the files in the output folder are "
            f"complete, and `{track_command(self.records.directory)}` copies them when MLflow is back"
        )
        return False

    def _answered(self, wrote: bool) -> None:
        if self._given_up.is_set():
            raise _GivenUp
        if wrote:
            self._progress = time.monotonic()

    def _follow(self) -> None:
        while not self._given_up.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                outcome = self._outcome
                self._mirror.end(outcome) if outcome else self._mirror.write()
                self._recovered()
                if outcome:
                    return
            except _GivenUp:
                return
            except Exception as error:
                self._failed(error)
                self._changed.set()
                (self._given_up if self._closing.is_set() else self._closing).wait(RETRY_SECONDS)

    def _failed(self, error: Exception) -> None:
        """Warn at the second failure in a row; a single one is normal while several searches write at once."""
        self._trouble = first_line(error)
        self._failures += 1
        if self._failures == 2 and not self._closing.is_set():
            self.warn(f"MLflow cannot be reached ({self._trouble}); the search goes on and keeps trying")
        if isinstance(error, UserError) and self._closing.is_set():
            self._given_up.set()

    def _recovered(self) -> None:
        if self._failures >= 2 and not self._closing.is_set():
            self.warn("MLflow can be reached again and is up to date")
        self._failures, self._trouble = 0, ""


def track_command(directory: Path) -> str:
    """The command that copies the search in `directory` to MLflow, to be typed in the current folder."""
    return f"python -m search.track {shlex.quote(short_path(directory))}"
