"""From finished trials to the front, the baselines and the recommended configuration, and their tables.

The order is what keeps the test split out of the search: front and choice are made from validation alone, then every
point and baseline is measured once on test. The gate at random is matched to the filter rate of the chosen point, on
each split separately, and spread along the front (search/selection/chance.py); nothing is chosen by it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search.records import METRICS, Trial, without_idle_columns
from search.selection import chance, differences
from search.selection.chance import EVERYTHING, NOTHING, RANDOM
from search.selection.pareto import Choice, choose, hypervolume, non_dominated
from search.spec import Spec, baseline_config, trial_config, trial_seed
from search.subject import Job

Measure = Callable[[Sequence[Job]], Iterable[Measurement | None]]  # None: not finite


@dataclass(frozen=True)
class Point:
    """A row of pareto.csv or baselines.csv."""

    name: str
    config: AdaptConfig
    valid: dict[str, float]
    test: Measurement | None = None


@dataclass(frozen=True)
class Selection:
    """What a search comes to. Without a finished trial there is no front and nothing is chosen."""

    front: list[Point]
    baselines: list[Point]
    choice: Choice | None
    hypervolume: float

    @property
    def chosen(self) -> Point | None:
        return self.front[self.choice.index] if self.choice else None


def front_of(spec: Spec, finished: list[Trial]) -> tuple[list[Point], float]:
    """The trials that no other beats in both objectives, by filter rate, and their hypervolume."""
    values = np.array([_objectives(spec, trial.metrics) for trial in finished]).reshape(-1, 2)
    front = [trial for trial, kept in zip(finished, non_dominated(values), strict=True) if kept]
    points = [Point(t.trial_id, trial_config(spec, t.parameters), t.metrics) for t in front]
    return sorted(points, key=lambda point: point.valid["filter_rate"]), float(hypervolume(values))


def select(spec: Spec, finished: list[Trial], n_items: int, measure: Measure) -> Selection:
    """Front, baselines and choice, from validation alone."""
    front, volume = front_of(spec, finished)
    best = max(front, key=lambda point: point.valid[spec.search.quality], default=None)
    stand_in = best.config if best else spec.adapt
    fixed = [name for name in spec.baselines if name != RANDOM]
    configs = [baseline_config(spec, name, n_items=n_items, random_rate=0.0, chosen=stand_in) for name in fixed]
    measured = measure([_job(spec, config) for config in configs])
    baselines = [Point(n, c, m.metrics()) for n, c, m in zip(fixed, configs, measured, strict=True) if m]
    choice = _choose(spec, front, baselines)
    if choice and RANDOM in spec.baselines:
        at_random = _at_random(spec, n_items, front, front[choice.index])
        measured = measure([_job(spec, config) for config in at_random.values()])
        baselines += [Point(n, c, m.metrics()) for (n, c), m in zip(at_random.items(), measured, strict=True) if m]
    return Selection(front, baselines, choice, volume)


def without_baselines(spec: Spec, finished: list[Trial]) -> Selection:
    """What can be said of a search that was cut off without measuring anything more."""
    front, volume = front_of(spec, finished)
    return Selection(front, [], _choose(spec, front, []), volume)


def remeasure(spec: Spec, selection: Selection, n_items: int, measure: Measure) -> Selection:
    """The selection with its front and baselines measured once on test."""
    fixed = [point for point in selection.baselines if point.name != RANDOM]
    points = [*selection.front, *fixed]
    measured = measure([_job(spec, point.config) for point in points])
    tested = {point.name: replace(point, test=m) for point, m in zip(points, measured, strict=True)}
    random = next((point for point in selection.baselines if point.name == RANDOM), None)
    chosen = tested[selection.chosen.name] if selection.chosen else None
    if random and chosen and chosen.test is not None:
        config = _random_like(spec, n_items, chosen, chosen.test.metrics())
        (at_random,) = measure([_job(spec, config)])
        tested[RANDOM] = replace(random, config=config, test=at_random)
    baselines = [tested[point.name] for point in selection.baselines if point.name in tested]
    return replace(selection, front=[tested[point.name] for point in selection.front], baselines=baselines)


def tables(spec: Spec, selection: Selection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """pareto.csv and baselines.csv; the test's columns are empty while test is not measured."""
    points = [*selection.front, *selection.baselines]
    names = [*spec.space]
    rows = [
        {
            "trial_id": point.name,
            **{name: getattr(point.config, name) for name in names},
            **{f"valid_{name}": point.valid.get(name) for name in METRICS},
            **{f"test_{name}": value for name, value in _test_metrics(point).items()},
        }
        for point in points
    ]
    metrics = [f"{split}_{name}" for split in ("valid", "test") for name in METRICS]
    # As objects first: beside a null, pandas would make an integer a float.
    table = pd.DataFrame(rows, columns=["trial_id", *names, *metrics], dtype=object)
    table = table.astype(dict.fromkeys(metrics, float)).join(_differences(spec, selection, points))
    table["on_test_front"] = _on_test_front(spec, table, len(selection.front))
    table = without_idle_columns(table)
    return table.iloc[: len(selection.front)], table.iloc[len(selection.front) :].reset_index(drop=True)


def chosen_document(spec: Spec, selection: Selection) -> dict[str, Any]:
    """chosen.yaml: the recommended configuration whole, as `--set` texts, and why it was chosen."""
    if selection.chosen is None or selection.choice is None:
        return {"trial_id": None, "why": "No trial finished, so that nothing can be recommended."}
    config = dict(vars(selection.chosen.config))
    return {
        "trial_id": selection.chosen.name,
        "rule": f"the highest filter rate whose validation {spec.search.quality} is within "
        f"{spec.search.choose.tolerance:.1%} of the best, adapting on everything included; where none is, the best",
        "why": selection.choice.reason + _better_left(spec, selection, selection.chosen),
        "adapt": config,
        "set": [f"adapt.{name}={'null' if config[name] is None else config[name]}" for name in spec.space],
    }


def _better_left(spec: Spec, selection: Selection, chosen: Point) -> str:
    """A sentence where not adapting at all was as good or better on validation; the search has no such trial."""
    frozen = next((point.valid for point in selection.baselines if point.name == NOTHING), None)
    if frozen is None or _objectives(spec, frozen)[0] < _objectives(spec, chosen.valid)[0]:
        return ""
    quality, rate = _objectives(spec, frozen)
    return f" But not adapting at all (baseline {NOTHING}) has {quality:.4f} at {rate:.1%} there, no worse in either."


def _objectives(spec: Spec, metrics: dict[str, float]) -> tuple[float, float]:
    return metrics[spec.search.quality], metrics["filter_rate"]


def _job(spec: Spec, config: AdaptConfig) -> Job:
    return Job(config, trial_seed(spec.search.seed, config))


def _choose(spec: Spec, front: list[Point], baselines: list[Point]) -> Choice | None:
    if not front:
        return None
    quality, filter_rate = np.array([_objectives(spec, point.valid) for point in front]).T
    reference = next((p.valid[spec.search.quality] for p in baselines if p.name == EVERYTHING), None)
    return choose(quality, filter_rate, spec.search.choose.tolerance, reference)


def _at_random(spec: Spec, n_items: int, front: list[Point], chosen: Point) -> dict[str, AdaptConfig]:
    """Gates at random that adapt as the chosen point does: one like it, and those along the front."""
    along = chance.rates([chance.asked_rate(point.valid) for point in front], spec.search.random_points)
    spread = {
        chance.name(rate): baseline_config(spec, RANDOM, n_items=n_items, random_rate=rate, chosen=chosen.config)
        for rate in along
    }
    return {RANDOM: _random_like(spec, n_items, chosen, chosen.valid)} | spread


def _random_like(spec: Spec, n_items: int, point: Point, metrics: dict[str, float]) -> AdaptConfig:
    """A gate at random that filters as much of a stream as `point` did."""
    rate = chance.asked_rate(metrics)
    return baseline_config(spec, RANDOM, n_items=n_items, random_rate=rate, chosen=point.config)


def _test_metrics(point: Point) -> dict[str, float]:
    return {} if point.test is None else point.test.metrics()


def _differences(spec: Spec, selection: Selection, points: list[Point]) -> pd.DataFrame:
    names, tests = [point.name for point in points], [point.test for point in points]
    chosen = selection.chosen.name if selection.chosen else None
    chances = spec.search.bootstrap_replicates, spec.search.seed
    return differences.on_test(names, tests, len(selection.front), chosen, *chances)


def _on_test_front(spec: Spec, table: pd.DataFrame, front: int) -> list[bool | None]:
    """Whether no point of the front (the first rows) beats a row on test in both objectives; None: not measured."""
    values = table[[f"test_{spec.search.quality}", "test_filter_rate"]].astype(float).to_numpy()
    rivals = values[:front][np.isfinite(values[:front]).all(1)]

    def unbeaten(row: NDArray[np.float64]) -> bool:
        return not ((rivals >= row).all(1) & (rivals > row).any(1)).any()

    return [unbeaten(row) if np.isfinite(row).all() else None for row in values]
