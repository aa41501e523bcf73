"""From finished trials to the front, the baselines and the recommended configuration, and their tables.

Front and choice are made from validation alone; only then is every point and baseline measured once on test. Random
skipping is matched to the chosen point's filter rate on each split and spread along the front
(search/selection/chance.py); it has no part in the choice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import label
from search.baselines import ALL, ANCHOR_RATES, NONE, RANDOM, adapting_like, at_random, baseline_config, random_at
from search.fields import value_of
from search.records.trial import Anchor, Trial
from search.records.trials_table import METRICS, without_idle_columns
from search.selection import chance, differences
from search.selection.area import AREAS, area_share, gain_over_dice
from search.selection.pareto import Choice, hypervolume, non_dominated
from search.selection.point import Point, chosen_and_grouped, measured_point, points_of, rule
from search.spec import Spec, neutral_config, objectives_of, trial_config, trial_seed
from search.spec.constraint import all_met
from search.subject import Job

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
        return [point for point in self.front if point.group in ("", point.name)]

    @property
    def chosen(self) -> Point | None:
        return self.front[self.choice.index] if self.choice else None


def front_of(spec: Spec, finished: Sequence[Trial], anchors: Sequence[Anchor] = ()) -> tuple[list[Point], float]:
    """The trials that no trial and no anchor beats in both objectives, by filter rate, and all trials' hypervolume.

    Where trials meet the spec's constraints, the others are left out of the front.
    """
    volume = float(hypervolume(_objectives(spec, [trial.metrics for trial in finished])))
    known = {anchor.name: anchor.metrics for anchor in anchors}
    feasible = [trial for trial in finished if all_met(spec.search.constraints, trial.metrics, known)]
    finished = feasible or finished
    values = _objectives(spec, [trial.metrics for trial in finished])
    rivals = _objectives(spec, [anchor.metrics for anchor in anchors if anchor.metrics])
    unbeaten = non_dominated(np.concatenate([values, rivals]))[: len(values)]
    front = [trial for trial, kept in zip(finished, unbeaten, strict=True) if kept]
    points = [Point(t.trial_id, trial_config(spec, t.parameters), t.metrics, outcomes=t.outcomes) for t in front]
    return sorted(points, key=lambda point: point.valid["filter_rate"]), volume


def select(
    spec: Spec, finished: list[Trial], n_items: int, measure: Measure, anchors: Sequence[Anchor] = (), users: str = ""
) -> Selection:
    """Front, baselines and choice, from validation alone.

    The baselines that the choice depends on adapt as the front's point of best quality does. One that is an anchor is
    not measured again. users: of the stream's samples, see search/selection/paired.py; without them no two points are
    compared sample by sample.
    """
    front, volume = front_of(spec, finished, anchors)
    best = max(front, key=lambda point: point.valid[spec.search.quality], default=None)
    base = _base(spec, best.config if best else neutral_config(spec))
    fixed: dict[str, AdaptConfig] = {
        name: baseline_config(name, base, n_items=n_items) for name in spec.baselines if name != RANDOM
    }
    measured = _Measured(spec, measure, anchors)
    baselines = measured.on_validation(fixed)
    choice, front = chosen_and_grouped(spec, front, [*baselines, *points_of(anchors)], users)
    if RANDOM in spec.baselines:
        baselines += measured.on_validation(_random_skipping(spec, n_items, front, choice, base, measured))
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
    quality = spec.search.quality
    none, everything = known[NONE][quality], known[ALL][quality]
    dice = _plane(quality, [metrics for name, metrics in known.items() if chance.on_curve(name)])
    trials = _plane(quality, [trial.metrics for trial in finished])
    share = area_share(np.concatenate([trials, dice]), none, everything)
    return replace(judged, area_share=share, gain_over_dice=gain_over_dice(trials, dice, none))


def _plane(quality: str, metrics: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Points (quality, filter rate), float [N, 2]."""
    return np.array([(one[quality], one["filter_rate"]) for one in metrics], dtype=np.float64).reshape(-1, 2)


def _objectives(spec: Spec, metrics: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    return np.array([objectives_of(spec.search, one) for one in metrics], dtype=np.float64).reshape(-1, 2)


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
        jobs = [_job(self.spec, config) for config in unknown.values()]
        measured = zip(unknown, self.measure(jobs) if jobs else (), strict=True)
        found = {name: measured_point(name, configs[name], one) for name, one in measured if one}
        for name, config in configs.items():
            if anchor := self._anchor(config):
                found[name] = Point(name, config, anchor.metrics, outcomes=anchor.outcomes)
        return [found[name] for name in configs if name in found]


def areas(selection: Selection) -> dict[str, float | None]:
    """The sizes of the front that the provenance and MLflow hold, by name; None where unknown."""
    return {name: getattr(selection, name) for name in AREAS}


def remeasure(spec: Spec, selection: Selection, n_items: int, measure: Measure) -> Selection:
    """The selection with its front and baselines measured once on test.

    Random skipping is matched to the chosen point's filter rate on test; without that rate it is left out.
    """
    fixed = [point for point in selection.baselines if point.name != RANDOM]
    points = [*selection.retested, *fixed]
    measured = measure([_job(spec, point.config) for point in points])
    tested = {point.name: replace(point, test=m) for point, m in zip(points, measured, strict=True)}
    random = next((point for point in selection.baselines if point.name == RANDOM), None)
    chosen = tested[selection.chosen.name] if selection.chosen else None
    if random and chosen and chosen.test is not None:
        config = _random_like(spec, n_items, chosen, chosen.test.metrics())
        (by_chance,) = measure([_job(spec, config)])
        tested[RANDOM] = replace(random, config=config, test=by_chance)
    baselines = [tested[point.name] for point in selection.baselines if point.name in tested]
    front = [tested.get(point.name, point) for point in selection.front]
    return replace(selection, front=front, baselines=baselines)


def tables(spec: Spec, selection: Selection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """pareto.csv and baselines.csv; the columns of test are empty until test is measured."""
    points = [*selection.front, *selection.baselines]
    names = [*spec.space]
    rows = [
        {
            "trial_id": point.name,
            **{name: value_of(point.config, name) for name in names},
            **{f"valid_{name}": point.valid.get(name) for name in METRICS},
            **{f"test_{name}": value for name, value in _test_metrics(point).items()},
            "group": point.group,
        }
        for point in points
    ]
    metrics = [f"{split}_{name}" for split in ("valid", "test") for name in METRICS]
    # dtype object: pandas would turn a column of integers and nulls into floats.
    table = pd.DataFrame(rows, columns=["trial_id", *names, *metrics, "group"], dtype=object)
    table = table.astype(dict.fromkeys(metrics, float)).join(_differences(spec, selection, points))
    table = table.copy()  # in whole blocks, because pandas warns of one more column beside a hundred
    table["on_test_front"] = _on_test_front(spec, table, len(selection.front))
    table = without_idle_columns(table)
    return table.iloc[: len(selection.front)], table.iloc[len(selection.front) :].reset_index(drop=True)


def chosen_document(spec: Spec, selection: Selection) -> dict[str, Any]:
    """chosen.yaml: the whole recommended configuration, the same as `--set` texts, and the reason for the choice."""
    if selection.chosen is None or selection.choice is None:
        return {"trial_id": None, "why": _why_none(selection)}
    config, searched = selection.chosen.config, {name: value_of(selection.chosen.config, name) for name in spec.space}
    return {
        "trial_id": selection.chosen.name,
        "rule": rule(spec),
        "why": selection.choice.reason + _beaten_by(spec, selection, selection.chosen),
        "adapt": dict(vars(config)),
        "set": [f"adapt.{name}={'null' if value is None else value}" for name, value in searched.items()],
    }


def _why_none(selection: Selection) -> str:
    if not selection.finished:
        return "No trial finished, so there is nothing to recommend."
    return (
        "A fixed configuration (no adaptation, adapting on everything, or random skipping) beats every finished trial "
        "in both objectives, so no trial is recommended."
    )


def _beaten_by(spec: Spec, selection: Selection, chosen: Point) -> str:
    """A warning for each baseline that is at least as good as the chosen point on validation, else nothing.

    No trial switches adaptation or its gate off, so the front cannot show this. Random skipping is matched to the
    chosen point's filter rate, so only its quality is compared.
    """
    quality, mine = spec.search.quality, chosen.valid
    fixed = {point.name: point.valid for point in selection.baselines}
    words = {
        NONE: "no adaptation (baseline none) is at least as good in both objectives",
        ALL: "adapting on every sample (baseline all) is at least as good in both objectives",
        RANDOM: "random skipping of as many samples (baseline random) scores at least as high",
    }
    texts = []
    for name in (name for name in words if name in fixed):
        skips_enough = name == RANDOM or fixed[name]["filter_rate"] >= mine["filter_rate"]
        if skips_enough and fixed[name][quality] >= mine[quality]:
            place = f"{label(quality)} {fixed[name][quality]:.4f} at a filter rate of {fixed[name]['filter_rate']:.1%}"
            texts.append(f" However, {words[name]}: {place}.")
    return "".join(texts)


def _base(spec: Spec, chosen: AdaptConfig) -> AdaptConfig:
    """The adaptation that the baselines share with a configuration of the search."""
    return adapting_like(chosen, spec.adapt, spec.space)


def _job(spec: Spec, config: AdaptConfig) -> Job:
    return Job(config, trial_seed(spec.search.seed, config))


def _random_skipping(
    spec: Spec, n_items: int, front: list[Point], choice: Choice | None, base: AdaptConfig, measured: _Measured
) -> dict[str, AdaptConfig]:
    """Random skipping that adapts as the chosen point does: at its filter rate, and at rates along the front."""
    chosen = front[choice.index] if choice else None
    base = _base(spec, chosen.config) if chosen else base
    anchored = [rate for rate in ANCHOR_RATES if measured.known_metrics(at_random(base, n_items, rate)) is not None]
    along = chance.rates([chance.gate_rate(point.valid) for point in front], spec.search.random_points, anchored)
    spread = {random_at(rate): at_random(base, n_items, rate) for rate in along}
    return ({RANDOM: _random_like(spec, n_items, chosen, chosen.valid)} if chosen else {}) | spread


def _random_like(spec: Spec, n_items: int, point: Point, metrics: dict[str, float]) -> AdaptConfig:
    """Random skipping of as many samples as `point` skipped; `metrics` are the point's on the split in question."""
    base = _base(spec, point.config)
    return baseline_config(RANDOM, base, n_items=n_items, random_rate=chance.gate_rate(metrics))


def _test_metrics(point: Point) -> dict[str, float]:
    return {} if point.test is None else point.test.metrics()


def _differences(spec: Spec, selection: Selection, points: list[Point]) -> pd.DataFrame:
    names, tests = [point.name for point in points], [point.test for point in points]
    chosen = selection.chosen.name if selection.chosen else None
    return differences.on_test(
        names,
        tests,
        spec.search.quality,
        front=len(selection.front),
        chosen=chosen,
        replicates=spec.search.bootstrap_replicates,
        seed=spec.search.seed,
    )


def _on_test_front(spec: Spec, table: pd.DataFrame, front: int) -> list[bool | None]:
    """Whether no point of the front (the first rows) beats a row in both objectives on test; None: not measured."""
    values = table[[f"test_{spec.search.quality}", "test_filter_rate"]].astype(float).to_numpy()
    rivals = values[:front][np.isfinite(values[:front]).all(1)]

    def unbeaten(row: NDArray[np.float64]) -> bool:
        return not ((rivals >= row).all(1) & (rivals > row).any(1)).any()

    return [unbeaten(row) if np.isfinite(row).all() else None for row in values]
