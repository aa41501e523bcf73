"""The wanted content of a search's runs in MLflow, and how an existing run differs from it. Nothing here does I/O."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from search.records import State, Trial

PARAMS_PER_BATCH = 100  # the most that MLflow accepts in one request
FRONT_TAG = "pareto"
_REASONS = ("error", "traceback")


@dataclass(frozen=True)
class Outcome:
    """The end of a search.

    Attributes:
        state: of the search's own run, the parent of the trials' runs.
        metrics: of the parent run.
        front: test metrics of each front trial, by trial id; None leaves the marks of an earlier end as they are.
        artifacts: the folder whose files become the parent run's artifacts.
        moment: the time stamp of these metrics, in seconds since 1970.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    front: Mapping[str, Mapping[str, float]] | None = None
    artifacts: Path | None = None
    moment: float = field(default_factory=time.time)


class Point(NamedTuple):
    """A value of a metric. MLflow shows the last one of each name as the run's value."""

    name: str
    value: float
    moment: float  # seconds since 1970
    step: int = 0


@dataclass(frozen=True)
class Wanted:
    """The content that a run should have; a tag in `unwanted` should not be there."""

    state: State
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    unwanted: tuple[str, ...] = ()
    end: float = 0.0  # seconds since 1970; 0 means now


@dataclass(frozen=True)
class Difference:
    """A part of the content that a run lacks, no larger than MLflow accepts in one request."""

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Copy:
    """The content of one run in the store, as far as this process knows."""

    run_id: str
    began: float  # seconds since 1970
    status: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def lacks(self, wanted: Wanted) -> Iterator[Difference]:
        """The differences to write, in order. MLflow never changes a parameter, so an existing one is left alone.

        A metric whose last value differs is written with all its points.
        """
        latest = {point.name: point.value for point in wanted.metrics}
        lacking = {name for name, value in latest.items() if self.metrics.get(name) != value}
        metrics = tuple(point for point in wanted.metrics if point.name in lacking)
        tags = {name: text for name, text in wanted.tags.items() if self.tags.get(name) != text}
        params = [(name, _text(value)) for name, value in wanted.params.items() if name not in self.params]
        for start in range(0, max(len(params), bool(metrics or tags)), PARAMS_PER_BATCH):
            batch = dict(params[start : start + PARAMS_PER_BATCH])
            yield Difference(batch) if start else Difference(batch, metrics, tags)

    def took(self, batch: Difference) -> None:
        """Note that the store has accepted the batch."""
        self.params |= batch.params
        self.metrics |= {point.name: point.value for point in batch.metrics}
        self.tags |= batch.tags


def wanted_of(trial: Trial, began: float, outcome: Outcome | None = None) -> Wanted:
    """The wanted run of a trial. `began` is when that run began, in seconds since 1970.

    outcome: None while the search runs.
    """
    # A point that is written again has the same moment, since MLflow keeps equal points of one moment only once.
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
    """A point for each finite metric, at this moment in seconds since 1970."""
    return tuple(Point(name, value, moment) for name, value in metrics.items() if math.isfinite(value))


def version(trial: Trial) -> tuple[State, float, float]:
    """A value that changes whenever the wanted run of the trial changes."""
    return trial.state, trial.began, trial.ended


def _curve(trial: Trial, moment: float) -> Iterator[Point]:
    """The metrics along the stream, with the number of samples served as step."""
    for name, values in trial.curve.items():
        if name != "samples":
            for step, value in zip(trial.curve["samples"], values, strict=True):
                yield Point(f"stream_{name}", value, moment, int(step))


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _storable(text: str) -> str:
    """The end of a text as a tag: Postgres refuses NUL characters, and MLflow more than 8,000 characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[-5000:]
