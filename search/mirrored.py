"""What the runs of a search are to hold in MLflow, and what they lack. Pure: it knows the records and no store."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from search.records import Ending, State, Trial

PARAMS_PER_BATCH = 100  # MLflow takes no more at once
FRONT_TAG = "pareto"
PARENT_STATES = {
    Ending.COMPLETE: State.FINISHED,
    Ending.INTERRUPTED: State.KILLED,
    Ending.FAILING: State.FAILED,
    Ending.ALL_FAILED: State.FAILED,
}
_REASONS = ("error", "traceback")


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    front: test metrics of each front trial, by trial id; None leaves the marks of an earlier end. artifacts: folder
    whose files go to the parent run. moment: seconds since 1970, the time that these metrics bear.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    front: Mapping[str, Mapping[str, float]] | None = None
    artifacts: Path | None = None
    moment: float = field(default_factory=time.time)


class Point(NamedTuple):
    """A value of a metric; the last one of a name is the one that the run is known by."""

    name: str
    value: float
    moment: float  # seconds since 1970
    step: int = 0


@dataclass(frozen=True)
class Wanted:
    """What a run is to hold; the tags in `unwanted` it is not."""

    state: State
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    unwanted: tuple[str, ...] = ()
    end: float = 0.0  # seconds since 1970; 0: now


@dataclass(frozen=True)
class Difference:
    """What a run lacks, no more than MLflow takes at once."""

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Copy:
    """What the store holds of one run, as far as this process knows."""

    run_id: str
    began: float  # seconds since 1970
    status: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def lacks(self, wanted: Wanted) -> Iterator[Difference]:
        """A parameter, once there, cannot be changed; a curve that lacks its last point is written whole."""
        latest = {point.name: point.value for point in wanted.metrics}
        lacking = {name for name, value in latest.items() if self.metrics.get(name) != value}
        metrics = tuple(point for point in wanted.metrics if point.name in lacking)
        tags = {name: text for name, text in wanted.tags.items() if self.tags.get(name) != text}
        params = [(name, _text(value)) for name, value in wanted.params.items() if name not in self.params]
        for start in range(0, max(len(params), bool(metrics or tags)), PARAMS_PER_BATCH):
            batch = dict(params[start : start + PARAMS_PER_BATCH])
            yield Difference(batch) if start else Difference(batch, metrics, tags)

    def took(self, batch: Difference) -> None:
        self.params |= batch.params
        self.metrics |= {point.name: point.value for point in batch.metrics}
        self.tags |= batch.tags


def wanted_of(trial: Trial, began: float, outcome: Outcome | None = None) -> Wanted:
    """The run of a trial. began: of that run, in seconds since 1970; outcome: None while the search runs."""
    # The same moment at every attempt: MLflow keeps a point that comes again with the same moment once.
    moment = trial.ended or began
    metrics = (*points(trial.metrics, moment), *_curve(trial, moment)) if trial.state is State.FINISHED else ()
    tags = {name: _storable(text) for name in _REASONS if (text := getattr(trial, name))}
    unwanted = tuple(name for name in _REASONS if name not in tags)
    if outcome is not None and outcome.front is not None:
        if trial.trial_id in outcome.front:
            tested = {f"test_{name}": value for name, value in outcome.front[trial.trial_id].items()}
            metrics, tags = (*metrics, *points(tested, outcome.moment)), {**tags, FRONT_TAG: "true"}
        else:
            unwanted = (*unwanted, FRONT_TAG)
    return Wanted(trial.state, trial.parameters, metrics, tags, unwanted, trial.ended)


def points(metrics: Mapping[str, float], moment: float) -> tuple[Point, ...]:
    return tuple(Point(name, value, moment) for name, value in metrics.items() if math.isfinite(value))


def version(trial: Trial) -> tuple[State, float, float]:
    """Differs whenever the trial's run has something new to hold."""
    return trial.state, trial.began, trial.ended


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}: MLflow keeps nested parameters as one string."""
    flattened: dict[str, Any] = {}
    for key, value in document.items():
        inner = isinstance(value, Mapping)
        flattened |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flattened


def _curve(trial: Trial, moment: float) -> Iterator[Point]:
    """Metrics along the stream, with the samples served as step."""
    for name, values in trial.curve.items():
        if name != "samples":
            for step, value in zip(trial.curve["samples"], values, strict=True):
                yield Point(f"stream_{name}", value, moment, int(step))


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _storable(text: str) -> str:
    """A tag's text: Postgres takes no NUL, and MLflow no more than 8,000 characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[-5000:]
