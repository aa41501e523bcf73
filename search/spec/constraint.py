"""Constraints on a trial's results, such as {hr_at_10: ">= 0.98 * all"}: absolute, or relative to an anchor."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etarec.document import quoted
from etarec.metrics import COST, COSTS, QUALITY_METRICS, label
from search.baselines import ALL, NONE

CONSTRAINED = (*QUALITY_METRICS, "filter_rate", *COSTS, COST)
_FORM = re.compile(rf"(>=|<=)\s*(\d+\.?\d*|\.\d+)(?:\s*\*\s*({NONE}|{ALL}))?")


@dataclass(frozen=True)
class Constraint:
    """A bound on one metric: `factor`, or `factor` times the metric of an anchor."""

    metric: str
    at_least: bool
    factor: float
    anchor: str = ""

    @classmethod
    def of(cls, metric: str, text: str) -> "Constraint":
        """Raises ValueError for an unknown metric or another form than OPERATOR NUMBER [* ANCHOR]."""
        if metric not in CONSTRAINED:
            raise ValueError(f"given the metric {quoted(metric)}, expected one of {', '.join(CONSTRAINED)}")
        found = _FORM.fullmatch(text.strip())
        if found is None:
            example = f'">= 0.05", "<= 0.5" or ">= 0.98 * {ALL}" (or * {NONE})'
            raise ValueError(f"{metric}: given {quoted(text)}, expected a bound such as {example}")
        return cls(metric, found[1] == ">=", float(found[2]), found[3] or "")

    def bound(self, anchors: Mapping[str, Mapping[str, float]]) -> float | None:
        """The bound in the metric's own unit; None if the anchor was not measured."""
        if not self.anchor:
            return self.factor
        value = (anchors.get(self.anchor) or {}).get(self.metric)
        return None if value is None else self.factor * value

    def excess(self, metrics: Mapping[str, float], anchors: Mapping[str, Mapping[str, float]]) -> float:
        """The amount by which a result breaks the constraint; not above 0 where it is met or the bound is unknown."""
        bound = self.bound(anchors)
        if bound is None:
            return 0.0
        return bound - metrics[self.metric] if self.at_least else metrics[self.metric] - bound

    def limits(self, metric: str, anchor: str) -> bool:
        """Whether it is a lower bound on the metric relative to the anchor's."""
        return self.at_least and (self.metric, self.anchor) == (metric, anchor)

    def __str__(self) -> str:
        relative = f" times that of the anchor {self.anchor}" if self.anchor else ""
        return f"{label(self.metric)} at {'least' if self.at_least else 'most'} {self.factor:g}{relative}"


def all_met(
    constraints: Mapping[str, str], metrics: Mapping[str, float], anchors: Mapping[str, Mapping[str, float]]
) -> bool:
    """Whether a result meets the constraints of a spec."""
    return all(constraint.excess(metrics, anchors) <= 0 for constraint in parsed(constraints))


def beside(constraints: Mapping[str, str], objectives: Sequence[str]) -> dict[str, str]:
    """The constraints that do not follow from dominance.

    A result may break them although it is better in all objectives than a result that meets them.
    """
    bounds = {constraint.metric: constraint for constraint in parsed(constraints)}
    follows = {name for name, bound in bounds.items() if name in objectives and bound.at_least is not (name == COST)}
    return {name: text for name, text in constraints.items() if name not in follows}


def parsed(constraints: Mapping[str, str]) -> list[Constraint]:
    return [Constraint.of(metric, text) for metric, text in constraints.items()]
