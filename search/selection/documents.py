"""The files of a selection as tables and documents: pareto.csv, baselines.csv and chosen.yaml."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import COST, SECONDS, label
from search.baselines import ALL, NONE, RANDOM
from search.fields import value_of
from search.records.trials_table import METRICS, without_idle_columns
from search.selection import differences, matched
from search.selection.chance import gate_rate
from search.selection.front import Selection
from search.selection.point import Point, rule
from search.spec import Spec


def tables(spec: Spec, selection: Selection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """pareto.csv and baselines.csv; the columns of test are empty until test is measured."""
    points = [*selection.front, *selection.baselines]
    names = [*spec.space]
    everything = next((p.test for p in points if p.name == ALL), None) if spec.search.measures_cost else None
    rows = [
        {
            "trial_id": point.name,
            **{name: value_of(point.config, name) for name in names},
            **{f"valid_{name}": point.valid.get(name) for name in METRICS},
            **{f"test_{name}": value for name, value in _test_metrics(point, everything).items()},
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
        return {"trial_id": None, "why": _why_none(selection), **_baselines(selection, spec.adapt)}
    config, searched = selection.chosen.config, {name: value_of(selection.chosen.config, name) for name in spec.space}
    return {
        "trial_id": selection.chosen.name,
        "rule": rule(spec),
        "why": selection.choice.reason + _beaten_by(spec, selection, selection.chosen),
        "adapt": dict(vars(config)),
        "set": [f"adapt.{name}={'null' if value is None else value}" for name, value in searched.items()],
        **_baselines(selection, config),
    }


def _baselines(selection: Selection, base: AdaptConfig) -> dict[str, Any]:
    """The baselines that a verdict may advise, as the fields that differ from `base`: of the choice, or of the spec."""
    found = {
        point.name: {name: value for name, value in vars(point.config).items() if value != getattr(base, name)}
        for point in selection.baselines
        if point.name in (NONE, ALL, RANDOM)
    }
    return {"baselines": found} if found else {}


def _why_none(selection: Selection) -> str:
    if not selection.finished:
        return "No trial finished, so no trial is recommended."
    return (
        "A fixed configuration (no adaptation, adapting on everything, or random skipping) beats every finished trial "
        "in all objectives, so no trial is recommended."
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
            place = f"{label(quality)} {fixed[name][quality]:.4f} with {gate_rate(fixed[name]):.1%} skipped"
            texts.append(f" However, {words[name]} on validation: {place}.")
    return "".join(texts)


def _test_metrics(point: Point, everything: Measurement | None) -> dict[str, float]:
    """The metrics of a point on test, with its cost where that of adapting on `everything` is known.

    On test every sample is served, so the seconds of the whole stream are the cost.
    """
    if point.test is None:
        return {}
    if everything is None:
        return point.test.metrics()
    mine, its = (sum(one.seconds[name] for name in SECONDS[1:]) for one in (point.test, everything))
    return {**point.test.metrics(), COST: mine / its}


def _differences(spec: Spec, selection: Selection, points: list[Point]) -> pd.DataFrame:
    names, tests = [point.name for point in points], [point.test for point in points]
    chosen = selection.chosen.name if selection.chosen else None
    partners = matched.partners(selection.front, selection.choice, spec.search.random_points)
    return differences.on_test(
        names,
        tests,
        spec.search.quality,
        front=len(selection.front),
        chosen=chosen,
        matched={partner.name: name for name, partner in partners.items()},
        replicates=spec.search.bootstrap_replicates,
        seed=spec.search.seed,
    )


def _on_test_front(spec: Spec, table: pd.DataFrame, front: int) -> list[bool | None]:
    """Whether no point of the front (the first rows) beats a row in all objectives on test; None: not measured."""
    signs = [-1.0 if name == COST else 1.0 for name in spec.search.objectives]
    values = table[[f"test_{name}" for name in spec.search.objectives]].astype(float).to_numpy() * signs
    rivals = values[:front][np.isfinite(values[:front]).all(1)]

    def unbeaten(row: NDArray[np.float64]) -> bool:
        return not ((rivals >= row).all(1) & (rivals > row).any(1)).any()

    return [unbeaten(row) if np.isfinite(row).all() else None for row in values]
