"""Brings MLflow up to the records in a thread of its own: a slow or absent tracking server never holds up a trial."""

import shlex
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etarec.command_line import short_path
from etarec.config import UserError
from search.records import Records, State
from search.track.mirror import Mirror, first_line
from search.track.wanted import Outcome

RETRY_SECONDS = 5.0
LONGEST = 10  # times the patience, for a store that takes what it is given, but slowly


class _GivenUp(Exception):  # noqa: N818  # not an error: the search ends without the store
    pass


class Tracker:
    """Mirrors the records of one search. All public methods return at once, except `close`."""

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
        """The records have changed."""
        self._changed.set()

    def close(
        self,
        state: State,
        metrics: Mapping[str, float],
        front: Mapping[str, Mapping[str, float]] | None,
        artifacts: Path | None,
        patience: float = 60.0,
    ) -> bool:
        """Writes all that is left and ends the parent run; False if the store refuses or stands still.

        patience: seconds in which nothing could be written, after which it is left alone; ten times that in all.
        For the rest see `Outcome`.
        """
        begin = self._progress = time.monotonic()
        self._outcome = Outcome(state, metrics, front, artifacts)
        self._closing.set()
        self._changed.set()
        while self._thread.is_alive():
            self._thread.join(0.1)
            if time.monotonic() > min(self._progress + patience, begin + LONGEST * patience):
                self._given_up.set()
                self._thread.join(1)
                break
        else:
            if not self._given_up.is_set():
                return True
        self.warn(
            f"MLflow is not up to date ({self._trouble or 'no answer in time'}); the files in the output folder are "
            f"complete, and `{track_command(self.records.directory)}` copies them when it is back"
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
        """One failure is no news: of several searches that write at once, one may have to wait."""
        self._trouble = first_line(error)
        self._failures += 1
        if self._failures == 2 and not self._closing.is_set():
            self.warn(f"MLflow cannot be reached ({self._trouble}); measuring goes on, it is tried again")
        if isinstance(error, UserError) and self._closing.is_set():
            self._given_up.set()

    def _recovered(self) -> None:
        if self._failures >= 2 and not self._closing.is_set():
            self.warn("MLflow is reached again and up to date")
        self._failures, self._trouble = 0, ""


def track_command(directory: Path) -> str:
    """The command that copies the search in `directory` to MLflow, to be typed in the current folder."""
    return f"python -m search.track {shlex.quote(short_path(directory))}"
