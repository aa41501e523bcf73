"""The wanted content of a search's runs in MLflow, and how an existing run differs from it. Nothing here does I/O."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from etarec.metrics import QUALITY_METRICS, label
from search import markdown, numbers
from search.records.states import State
from search.records.trial import Trial
from search.records.trials_table import METRICS
from search.track.companions import Baseline

MAX_NAME = 250  # characters
PARAMS_PER_BATCH = 100  # the most that MLflow accepts in one request
FRONT_TAG, VERDICT_TAG, CHOSEN_TAG, PRUNED_TAG = "pareto", "verdict", "chosen", "pruned"
MLFLOW_RUN_NOTE = "mlflow.note.content"  # shown as the run's description
BASELINE_TAG = "baseline"  # with the baseline's name
DESCRIBED_POINTS = 30  # of the front, at most, in the description
_REASONS = ("error", "traceback")


@dataclass(frozen=True)
class Outcome:
    """The end of a search.

    Attributes:
        state: of the search's own run, the parent of the trials' runs.
        metrics: of the parent run.
        front: test metrics of each front trial, by trial id; None leaves the marks of an earlier end as they are.
        artifacts: the folder whose files become the parent run's artifacts.
        chosen: the content of chosen.yaml.
        moment: the time stamp of these metrics, in seconds since 1970.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    front: Mapping[str, Mapping[str, float]] | None = None
    artifacts: Path | None = None
    moment: float = field(default_factory=time.time)
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_metrics(self) -> dict[str, float]:
        """The parent run's metrics, those of the chosen trial on test included."""
        tested = (self.front or {}).get(self.chosen_id, {})
        return {**self.metrics, **{f"chosen_test_{name}": value for name, value in tested.items()}}

    @property
    def params(self) -> dict[str, str]:
        """The settings of the chosen trial, such as chosen.top_k."""
        settings = [str(text).partition("=") for text in self.chosen.get("set") or []]
        return {f"chosen.{name.removeprefix('adapt.')}": value for name, _, value in settings}

    @property
    def tags(self) -> dict[str, str]:
        """The verdict and the chosen trial, and a description of the search in Markdown."""
        if "verdict" not in self.chosen:
            return {}
        described = {VERDICT_TAG: str(self.chosen["verdict"]), MLFLOW_RUN_NOTE: self._description()}
        return {**described, CHOSEN_TAG: self.chosen_id} if self.chosen_id else described

    @property
    def chosen_id(self) -> str:
        return str(self.chosen.get("trial_id") or "")

    def _description(self) -> str:
        advice = markdown.plain(self.chosen["advice"])
        rows = [(name, tested) for name, tested in (self.front or {}).items() if tested][:DESCRIBED_POINTS]
        if not rows:
            return advice
        names = [name for name in (*QUALITY_METRICS, "filter_rate", "arithmetic") if name in rows[0][1]]
        lines = [["trial", *map(label, names)], ["---"] * (len(names) + 1)]
        lines += [
            [markdown.plain(name), *(f"{tested.get(one, math.nan):.4f}" for one in names)] for name, tested in rows
        ]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{advice}\n\nThe front on test:\n\n{table}"


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


def search_name(experiment: str, parameters: Mapping[str, Any], began: float) -> str:
    """The name of a search's own run: its spec, its data and when it began (UTC)."""
    data = Path(str(parameters.get("data.path") or parameters.get("data.dataset") or "")).name
    moment = datetime.fromtimestamp(began or time.time(), UTC)
    return f"{experiment}{f' on {data}' if data else ''}, {moment:%Y-%m-%d %H:%M}"


def trial_name(trial: Trial) -> str:
    """The name of a trial's run: k66 q.86 c.46."""
    return numbers.configuration(trial.parameters)[:MAX_NAME] or trial.trial_id


def idle_metrics(trials: Iterable[Trial]) -> frozenset[str]:
    """The metrics that are 0 in every finished trial, such as the share filtered by a criterion that is not used."""
    finished = [trial.metrics for trial in trials if trial.state is State.FINISHED]
    used = {name for metrics in finished for name, value in metrics.items() if value}
    return frozenset(METRICS) - used - {*QUALITY_METRICS, "filter_rate"}


def wanted_of(trial: Trial, began: float, outcome: Outcome | None = None, idle: frozenset[str] = frozenset()) -> Wanted:
    """The wanted run of a trial. `began` is when that run began, in seconds since 1970.

    outcome: None while the search runs. idle: metrics that are left out where they are 0.
    """
    # A point that is written again has the same moment, since MLflow keeps equal points of one moment only once.
    moment = trial.ended or began
    told = without_idle(trial.metrics, idle)
    metrics = (*points(told, moment), *_curve(trial, moment)) if trial.state is State.FINISHED else ()
    tags = {name: storable(text) for name in (*_REASONS, "source") if (text := getattr(trial, name))}
    unwanted = tuple(name for name in _REASONS if name not in tags)
    if outcome is not None and outcome.front is not None:
        if trial.trial_id in outcome.front:
            tested = {f"test_{name}": v for name, v in without_idle(outcome.front[trial.trial_id], idle).items()}
            metrics, tags = (*metrics, *points(tested, outcome.moment)), {**tags, FRONT_TAG: "true"}
        else:
            unwanted = (*unwanted, FRONT_TAG)
    if trial.state is State.PRUNED:  # MLflow has no state for it
        return Wanted(State.KILLED, trial.parameters, metrics, {**tags, PRUNED_TAG: "true"}, unwanted, trial.ended)
    return Wanted(trial.state, trial.parameters, metrics, tags, unwanted, trial.ended)


def wanted_of_baseline(name: str, baseline: Baseline, moment: float, idle: frozenset[str]) -> Wanted:
    """The wanted run of a baseline, which ended at `moment`, in seconds since 1970."""
    metrics = {key: value for key, value in baseline.metrics.items() if value or key.removeprefix("test_") not in idle}
    tags = {BASELINE_TAG: name}
    return Wanted(State.FINISHED, baseline.parameters, points(metrics, moment), tags, end=moment)


def without_idle(metrics: Mapping[str, float], idle: frozenset[str]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value or name not in idle}


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


def storable(text: str) -> str:
    """The end of a text as a tag: Postgres refuses NUL characters, and MLflow more than 8,000 characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[-5000:]
