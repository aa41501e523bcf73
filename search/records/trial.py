"""One trial, one measurement made before the trials, and the reason in a trial's error."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from search.records.states import State


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


def trial_id(number: int) -> str:
    return f"trial-{number:04d}"


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
