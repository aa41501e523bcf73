"""Points of a front and baselines, the choice of one point, and the groups of points that cannot be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import COST, QUALITY_METRICS, label
from search.baselines import ALL
from search.records.trial import Anchor
from search.selection import choosing, groups
from search.selection.chance import gate_rate
from search.selection.paired import Outcomes, users_of
from search.selection.pareto import CHEAPER, SKIPPING, Choice, Saving, choose
from search.spec import Spec, objectives_of
from search.spec.constraint import all_met, parsed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A row of pareto.csv or baselines.csv."""

    name: str
    config: AdaptConfig
    valid: dict[str, float]
    test: Measurement | None = None
    outcomes: str = ""  # on validation, see search/selection/paired.py
    group: str = ""  # the point of the front that is measured on test for its group, perhaps itself
    modelled: dict[str, float] = field(default_factory=dict)  # see search/selection/modelled.py

    @property
    def judged(self) -> dict[str, float]:
        """The metrics that decide on front and choice: those of validation, with a modelled quality if there is one."""
        return self.valid | self.modelled

    @property
    def retested(self) -> bool:
        """Whether this point of the front is measured on test."""
        return self.group in ("", self.name)


def points_of(anchors: Sequence[Anchor]) -> list[Point]:
    """The anchors that were measured."""
    return [Point(a.name, AdaptConfig(**a.adapt), a.metrics, outcomes=a.outcomes) for a in anchors if a.metrics]


def measured_point(name: str, config: AdaptConfig, measurement: Measurement) -> Point:
    """A baseline measured on validation."""
    outcomes = Outcomes.of(measurement.ranks, measurement.admitted).text()
    return Point(name, config, measurement.metrics(), outcomes=outcomes)


def chosen_and_grouped(
    spec: Spec, front: list[Point], fixed: Sequence[Point], users: str
) -> tuple[Choice | None, list[Point]]:
    """The choice from a front, and the front's points with their groups.

    Args:
        front: by filter rate.
        fixed: baselines and anchors; of two with one name the first counts.
        users: of the stream's samples; without them, or without a point's outcomes, every point is a group.
    """
    if not front:
        return None, front
    everything = next((point for point in fixed if point.name == ALL), None)
    compared = [*front, *([everything] if everything else [])]
    means = _bootstrapped(spec, compared, users) if users and all(point.outcomes for point in compared) else []
    below = np.zeros(len(front), dtype=np.bool_)
    if means and everything:
        below = groups.significantly_below(means[0][:, : len(front)], means[0][:, -1])
    choice = _choose(spec, front, {point.name: point.valid for point in reversed(fixed)}, below)
    if not means or spec.search.retest == "all" or not spec.search.followed:  # else alike points may cost unlike
        return choice, front
    return choice, _grouped(front, groups.grouped(means, [point.valid["filter_rate"] for point in front]), choice)


def rule(spec: Spec) -> str:
    """The rule of the choice, in words."""
    modelled = "; the quality of each trial is that of a model of all trials" if spec.search.front == "modelled" else ""
    return _rule(spec) + modelled


def _rule(spec: Spec) -> str:
    chosen, quality, objectives = spec.search.choose, label(spec.search.quality), spec.search.objectives
    qualities = [name for name in objectives if name in QUALITY_METRICS]
    most = "costs least" if spec.search.saving == COST else "skips most"
    least = chosen.min_filter_rate
    asked = f"among the points with a filter rate of at least {least:.0%}, if any: " if least else ""
    match chosen.rule:
        case "constraint":
            return f"{asked}the point that {most}, of those with {_wanted(spec)} on validation"
        case "knee":
            ends = "the line between its two ends" if len(objectives) == 2 else "the plane through its three ends"
            return f"{asked}the point of the front on validation furthest above {ends}"
        case "weights":
            names = [f"{label(name)} relative to adapting on every sample" for name in qualities]
            names += ["filter rate"] * ("filter_rate" in objectives) + ["saved cost"] * (COST in objectives)
            weighted = " + ".join(f"{w:g} x {name}" for w, name in zip(chosen.weights, names, strict=True))
            return f"{asked}the highest {weighted}, on validation"
        case _ if not chosen.tolerance:
            return f"{asked}the point of highest {quality} on validation; of equal ones, the one that {most}"
        case _:
            return (
                f"{asked}the point that {most}, of those whose {quality} on validation is within "
                f"{chosen.tolerance:.1%} of the best (the front's or that of adapting on every sample) and not clearly "
                f"below adapting on every sample; if there is none, the point of highest {quality}"
            )


def _bootstrapped(spec: Spec, points: Sequence[Point], users: str) -> list[Floats]:
    """Each quality metric of the objectives in the same resamples, float [replicates, N] each."""
    outcomes, search = [Outcomes.read(point.outcomes) for point in points], spec.search
    return [
        groups.bootstrapped(outcomes, users_of(users), quality, search.bootstrap_replicates, search.seed)
        for quality in search.qualities
    ]


def _grouped(front: list[Point], found: list[list[int]], choice: Choice | None) -> list[Point]:
    """Each group is measured by the chosen point, or by the point that skips most."""
    marked = list(front)
    for places in found:
        chosen = choice is not None and choice.index in places
        name = front[choice.index if chosen and choice else places[-1]].name
        for place in places:
            marked[place] = replace(front[place], group=name)
    return marked


def _wanted(spec: Spec) -> str:
    return " and ".join(map(str, parsed(spec.search.constraints)))


def _choose(
    spec: Spec, front: list[Point], fixed: Mapping[str, Mapping[str, float]], below: NDArray[np.bool_]
) -> Choice:
    """The choice by the spec's rule among the points that skip enough, if there are any.

    Args:
        fixed: metrics of baselines and anchors by name.
        below: which points are significantly below adapting on every sample.
    """
    least = spec.search.choose.min_filter_rate
    enough = [place for place, point in enumerate(front) if point.valid["filter_rate"] >= least]
    places = enough or list(range(len(front)))
    choice = _by_rule(spec, [front[place] for place in places], fixed, below[places])
    index, reason = places[choice.index], choice.reason
    if spec.search.constraints and not all_met(spec.search.constraints, front[index].judged, fixed):
        reason = f"No trial meets the constraint of {_wanted(spec)}. {reason}"
    if least:
        have = f"of the front's {len(front)} points {'has' if len(enough) == 1 else 'have'} the filter rate"
        reason = f"{len(enough) or 'None'} {have} of at least {least:.0%} that search.choose asks for. {reason}"
    if front[index].modelled:
        own = f"{label(spec.search.quality)} of {front[index].valid[spec.search.quality]:.4f}"
        reason = f"{reason} These are modelled values (search.front); it was measured at {own}."
    return Choice(index, reason)


def _by_rule(
    spec: Spec, front: list[Point], fixed: Mapping[str, Mapping[str, float]], below: NDArray[np.bool_]
) -> Choice:
    metric, rules, saving = label(spec.search.quality), spec.search.choose, _saving(spec)
    points = np.array([(point.judged[spec.search.quality], _saved(spec, point)) for point in front])
    met = all_met(spec.search.constraints, front[0].judged, fixed)  # of a front, all points meet them or none does
    match rules.rule:
        case "constraint" if met:
            return choosing.most_saving(points, metric, _wanted(spec), saving)
        case "knee":
            return choosing.knee(points, [objectives_of(spec.search, p.judged) for p in front], metric, saving)
        case "weights":
            names, terms = _terms(spec, front, fixed.get(ALL) or {})
            return choosing.weighted(points, terms, rules.weights, names, metric, saving)
    kept = np.flatnonzero(~below) if not below.all() else np.arange(len(front))
    everything = (fixed.get(ALL) or {}).get(spec.search.quality)
    choice = choose(points[kept, 0], points[kept, 1], rules.tolerance, everything, metric=metric, saving=saving)
    return Choice(int(kept[choice.index]), choice.reason)


def _saving(spec: Spec) -> Saving:
    return CHEAPER if spec.search.saving == COST else SKIPPING


def _saved(spec: Spec, point: Point) -> float:
    """The saving against adapting on everything that the choice weighs against the quality."""
    return 1 - point.valid[COST] if spec.search.saving == COST else gate_rate(point.valid)


def _terms(spec: Spec, front: list[Point], everything: Mapping[str, float]) -> tuple[list[str], Floats]:
    """The terms of the weighted sum, in the order of `search.choose.weights`: their names, and float [N, K]."""
    objectives = spec.search.objectives
    names, columns = list[str](), []
    for metric in (name for name in objectives if name in QUALITY_METRICS):
        values = np.array([point.judged[metric] for point in front])
        reference = everything.get(metric) or float(values.max()) or 1.0
        names.append(f"{label(metric)} / {reference:.4f}")
        columns.append(values / reference)
    if "filter_rate" in objectives:
        names.append("filter rate")
        columns.append(np.array([point.valid["filter_rate"] for point in front]))
    if COST in objectives:
        names.append("saved cost")
        columns.append(1 - np.array([point.valid[COST] for point in front]))
    return names, np.column_stack(columns)
