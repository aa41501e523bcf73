"""From finished trials to the front, the baselines and the recommended configuration.

Front and choice are made from validation alone; only then are points and baselines measured, each once, on test. Random
skipping is matched to the filter rates of these points on each split (search/selection/matched.py); it has no part in
the choice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import COST
from search.baselines import ALL, ANCHOR_RATES, NONE, RANDOM, adapting_like, at_random, baseline_config, random_at
from search.records.trial import Anchor, Trial
from search.selection import chance, matched
from search.selection.area import AREAS, area_share, ends, gain_over_dice
from search.selection.modelled import modelled
from search.selection.pareto import Choice, hypervolume, non_dominated
from search.selection.point import Point, chosen_and_grouped, measured_point, points_of
from search.spec import Spec, neutral_config, objectives_of, trial_config
from search.spec.constraint import all_met
from search.subject import Job, job_of

Measure = Callable[[Sequence[Job]], Iterable[Measurement | None]]  # None: a metric was not finite


@dataclass(frozen=True)
class Selection:
    """The result of a search; without a finished trial it has no front and no choice."""

    front: list[Point]
    baselines: list[Point]
    choice: Choice | None
    hypervolume: float
    finished: int = 0  # trials
    area_share: float | None = None  # see search/selection/area.py; None: there is no such area, or it is unknown
    gain_over_dice: float | None = None

    @property
    def retested(self) -> list[Point]:
        """The front's points that are measured on test."""
        return [point for point in self.front if point.retested]

    @property
    def chosen(self) -> Point | None:
        return self.front[self.choice.index] if self.choice else None


def front_of(spec: Spec, finished: Sequence[Trial], anchors: Sequence[Anchor] = ()) -> tuple[list[Point], float]:
    """The trials that no trial and no anchor beats in all objectives, by filter rate, and all trials' hypervolume.

    Where trials meet the spec's constraints, the others are left out of the front. With `search.front: modelled` both
    go by the modelled quality. The hypervolume is always that of the measurements.
    """
    origin = [-1.0 if name == COST else 0.0 for name in spec.search.objectives]  # adapting on everything costs about 1
    volume = hypervolume(_objectives(spec, [trial.metrics for trial in finished]), origin)
    known = {anchor.name: anchor.metrics for anchor in anchors}
    points = [
        Point(t.trial_id, trial_config(spec, t.parameters), t.metrics, outcomes=t.outcomes, modelled=quality)
        for t, quality in zip(finished, modelled(spec, finished), strict=True)
    ]
    points = [point for point in points if all_met(spec.search.constraints, point.judged, known)] or points
    values = _objectives(spec, [point.judged for point in points])
    rivals = _objectives(spec, [anchor.metrics for anchor in anchors if anchor.metrics])
    unbeaten = non_dominated(np.concatenate([values, rivals]))[: len(values)]
    front = [point for point, kept in zip(points, unbeaten, strict=True) if kept]
    return sorted(front, key=lambda point: point.valid["filter_rate"]), volume


def select(
    spec: Spec, finished: list[Trial], n_items: int, measure: Measure, anchors: Sequence[Anchor] = (), users: str = ""
) -> Selection:
    """Front, baselines and choice, from validation alone.

    The baselines that the choice depends on adapt as the front's point of best quality does. One that is an anchor is
    not measured again. users: of the stream's samples, see search/selection/paired.py; without them no two points are
    compared sample by sample.
    """
    front, volume = front_of(spec, finished, anchors)
    best = max(front, key=lambda point: point.judged[spec.search.quality], default=None)
    base = _base(spec, best.config if best else neutral_config(spec))
    fixed: dict[str, AdaptConfig] = {
        name: baseline_config(name, base, n_items=n_items) for name in spec.baselines if name != RANDOM
    }
    measured = _Measured(spec, measure, anchors)
    baselines = measured.on_validation(fixed)
    choice, front = chosen_and_grouped(spec, front, [*baselines, *points_of(anchors)], users)
    if RANDOM in spec.baselines:
        baselines += measured.on_validation(_random_skipping(spec, front, choice, base, measured))
    return _judged(spec, Selection(front, baselines, choice, volume), finished, anchors)


def without_baselines(spec: Spec, finished: list[Trial], anchors: Sequence[Anchor] = (), users: str = "") -> Selection:
    """The selection of an interrupted search, from its finished trials without any further measurement."""
    front, volume = front_of(spec, finished, anchors)
    choice, front = chosen_and_grouped(spec, front, points_of(anchors), users)
    return _judged(spec, Selection(front, [], choice, volume), finished, anchors)


def _judged(spec: Spec, selection: Selection, finished: Sequence[Trial], anchors: Sequence[Anchor]) -> Selection:
    """The selection with its share of the area and its gain over random skipping."""
    known = {anchor.name: anchor.metrics for anchor in anchors if anchor.metrics}
    known |= {point.name: point.valid for point in selection.baselines}
    judged = replace(selection, finished=len(finished))
    if NONE not in known or ALL not in known:
        return judged
    corner, opposite = ends(spec.search.objectives, known[NONE], known[ALL])
    dice = _objectives(spec, [metrics for name, metrics in known.items() if chance.on_curve(name)])
    trials = _objectives(spec, [trial.metrics for trial in finished])
    share = area_share(np.concatenate([trials, dice]), corner, opposite)
    return replace(judged, area_share=share, gain_over_dice=gain_over_dice(trials, dice, corner))


def _objectives(spec: Spec, metrics: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    return np.array([objectives_of(spec.search, one) for one in metrics], dtype=np.float64).reshape(
        -1, len(spec.search.objectives)
    )


class _Measured:
    """Measures configurations on validation, except those that are anchors."""

    def __init__(self, spec: Spec, measure: Measure, anchors: Sequence[Anchor]):
        self.spec, self.measure, self.anchors = spec, measure, anchors

    def known_metrics(self, config: AdaptConfig) -> dict[str, float] | None:
        """The metrics of an anchor; None for another configuration and for one whose measurement failed."""
        anchor = self._anchor(config)
        return anchor.metrics if anchor else None

    def _anchor(self, config: AdaptConfig) -> Anchor | None:
        return next((one for one in self.anchors if one.metrics and one.adapt == asdict(config)), None)

    def on_validation(self, configs: Mapping[str, AdaptConfig]) -> list[Point]:
        """The baselines of these names and configurations; one whose metrics are not finite is left out."""
        unknown = {name: config for name, config in configs.items() if self.known_metrics(config) is None}
        jobs = [job_of(self.spec, config) for config in unknown.values()]
        measured = zip(unknown, self.measure(jobs) if jobs else (), strict=True)
        found = {name: measured_point(name, configs[name], one) for name, one in measured if one}
        for name, config in configs.items():
            if anchor := self._anchor(config):
                found[name] = Point(name, config, anchor.metrics, outcomes=anchor.outcomes)
        return [found[name] for name in configs if name in found]


def areas(selection: Selection) -> dict[str, float | None]:
    """The sizes of the front that the provenance and MLflow hold, by name; None where unknown."""
    return {name: getattr(selection, name) for name in AREAS}


def remeasure(spec: Spec, selection: Selection, measure: Measure) -> Selection:
    """The selection with its front and baselines measured once on test.

    Random skipping comes last, because it skips as much as its partners did on test. Without a partner's rate it is
    left out.
    """
    partners = matched.partners(selection.front, selection.choice, spec.search.random_points)
    first = [*selection.retested, *(point for point in selection.baselines if point.name not in partners)]
    tested = _on_test(spec, first, measure)
    found = {name: tested[partner.name].test for name, partner in partners.items()}
    rates = {name: chance.gate_rate(one.metrics()) for name, one in found.items() if one is not None}
    tested |= _on_test(
        spec,
        [
            replace(point, config=_at_random(spec, selection.chosen, rates[point.name]))
            for point in selection.baselines
            if point.name in rates
        ],
        measure,
    )
    baselines = [tested[point.name] for point in selection.baselines if point.name in tested]
    front = [tested.get(point.name, point) for point in selection.front]
    return replace(selection, front=front, baselines=baselines)


def _on_test(spec: Spec, points: Sequence[Point], measure: Measure) -> dict[str, Point]:
    """The points with their measurements, by name."""
    measured = measure([job_of(spec, point.config) for point in points]) if points else ()
    return {point.name: replace(point, test=one) for point, one in zip(points, measured, strict=True)}


def _base(spec: Spec, chosen: AdaptConfig) -> AdaptConfig:
    """The adaptation that the baselines share with a configuration of the search."""
    return adapting_like(chosen, spec.adapt, spec.space)


def _random_skipping(
    spec: Spec, front: list[Point], choice: Choice | None, base: AdaptConfig, measured: _Measured
) -> dict[str, AdaptConfig]:
    """Random skipping that adapts as the chosen point does, at the filter rates of the points that it is matched to.

    Without a front these are the anchors that were measured.
    """
    partners = matched.partners(front, choice, spec.search.random_points)
    if choice is None:
        known = {random_at(rate): at_random(base, rate) for rate in ANCHOR_RATES}
        return {name: config for name, config in known.items() if measured.known_metrics(config) is not None}
    chosen = front[choice.index]
    rates = {name: matched.rate_of(partner) for name, partner in partners.items()}
    rates[RANDOM] = chance.gate_rate(chosen.valid)
    return {name: _at_random(spec, chosen, rate) for name, rate in rates.items()}


def _at_random(spec: Spec, chosen: Point | None, rate: float) -> AdaptConfig:
    """Random skipping at a rate that adapts as the chosen point does."""
    assert chosen is not None  # random skipping is matched to nothing without a choice
    return at_random(_base(spec, chosen.config), rate)
