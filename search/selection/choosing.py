"""The rules that choose one point of a front (`search.choose.rule`), each with its reason as a sentence.

A point is (quality, saving) on validation: the share of backward passes that it skips, or of the cost that it saves.
N points, K objectives.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.selection.pareto import SKIPPING, Choice, Saving

Floats = NDArray[np.float64]


def most_saving(points: ArrayLike, metric: str, wanted: str, saving: Saving = SKIPPING) -> Choice:
    """The highest saving, for points that meet the spec's constraints.

    Args:
        points: float [N, 2].
        metric: label of the quality metric.
        wanted: the constraints in words.
        saving: what is saved.
    """
    values = np.asarray(points, dtype=np.float64)
    index = int(np.lexsort((values[:, 0], values[:, 1]))[-1])
    most = f", the most of the {len(values)} points" if len(values) > 1 else " and is the only point"
    return Choice(index, f"{saving(values[index, 1])}{most} with {wanted}. {_own(values[index], metric)}")


def knee(points: ArrayLike, objectives: ArrayLike, metric: str, saving: Saving = SKIPPING) -> Choice:
    """The point furthest above the line between the front's ends, all objectives scaled to their range.

    With three objectives it is the plane through their best values. Where two points or a straight front leave no knee,
    the point of higher quality is chosen.

    Args:
        points: float [N, 2].
        objectives: float [N, K], larger is better.
        metric: label of the quality metric.
        saving: what is saved.
    """
    values, each = np.asarray(points, dtype=np.float64), np.asarray(objectives, dtype=np.float64)
    span = np.ptp(each, axis=0)
    scaled = (each - each.min(axis=0)) / np.where(span > 0, span, 1.0)
    above = scaled.sum(axis=1) - 1.0  # the line runs from (0, 1) to (1, 0)
    index = int(np.lexsort((values[:, 0], np.round(above, 12)))[-1])
    ends = "the line between its two ends" if each.shape[1] == 2 else "the plane through its three ends"
    reason = f"{saving(values[index, 1])} and is the knee of the front: furthest above {ends}"
    return Choice(index, f"{reason}. {_own(values[index], metric)}")


def weighted(
    points: ArrayLike, terms: ArrayLike, weights: Sequence[float], names: Sequence[str], metric: str,
    saving: Saving = SKIPPING,
) -> Choice:  # fmt: skip
    """The highest weighted sum.

    Args:
        points: float [N, 2].
        terms: float [N, K], the terms of the sum without their weights.
        weights: of the terms.
        names: of the terms, for the reason.
        metric: label of the quality metric.
        saving: what is saved.
    """
    values = np.asarray(points, dtype=np.float64)
    sums = np.asarray(terms, dtype=np.float64) @ np.asarray(weights)
    index = int(np.lexsort((values[:, 1], sums))[-1])
    rule = " + ".join(f"{weight:g} x {name}" for weight, name in zip(weights, names, strict=True))
    return Choice(index, f"{saving(values[index, 1])} and has the highest {rule}. {_own(values[index], metric)}")


def _own(point: Floats, metric: str) -> str:
    return f"Its own {metric} on validation is {point[0]:.4f}."
