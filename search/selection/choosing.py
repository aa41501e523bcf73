"""The rules that choose one point of a front (`search.choose.rule`), each with its reason as a sentence.

A point is (quality, filter rate) on validation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.selection.pareto import Choice

Floats = NDArray[np.float64]


def most_skipping(points: ArrayLike, metric: str, wanted: str) -> Choice:
    """The highest filter rate, for points that meet the spec's constraints.

    Args:
        points: float [N, 2].
        metric: label of the quality metric.
        wanted: the constraints in words.
    """
    values = np.asarray(points, dtype=np.float64)
    index = int(np.lexsort((values[:, 0], values[:, 1]))[-1])
    most = f", the most of the {len(values)} points" if len(values) > 1 else " and is the only point"
    return Choice(index, f"{_skips(values[index])}{most} with {wanted}; {_own(values[index], metric)}")


def knee(points: ArrayLike, metric: str) -> Choice:
    """The point furthest above the line between the front's ends, both objectives scaled to their range.

    Of two points, or on a straight front, the one of higher quality is chosen. points: float [N, 2].
    """
    values = np.asarray(points, dtype=np.float64)
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    above = scaled.sum(axis=1) - 1.0  # the line runs from (0, 1) to (1, 0)
    index = int(np.lexsort((values[:, 0], np.round(above, 12)))[-1])
    reason = f"{_skips(values[index])} and is the knee of the front: furthest above the line between its two ends"
    return Choice(index, f"{reason}; {_own(values[index], metric)}")


def weighted(points: ArrayLike, weights: Sequence[float], reference: float, metric: str) -> Choice:
    """The highest weighted sum of the quality, as a share of the reference's, and the filter rate.

    Args:
        points: float [N, 2].
        weights: of the quality and of the filter rate.
        reference: quality that counts as 1, above 0.
        metric: label of the quality metric.
    """
    values = np.asarray(points, dtype=np.float64)
    sums = weights[0] * values[:, 0] / reference + weights[1] * values[:, 1]
    index = int(np.lexsort((values[:, 1], sums))[-1])
    rule = f"{weights[0]:g} x {metric} / {reference:.4f} + {weights[1]:g} x filter rate"
    return Choice(index, f"{_skips(values[index])} and has the highest {rule}; {_own(values[index], metric)}")


def _skips(point: Floats) -> str:
    return f"It skips {point[1]:.1%} of the passes"


def _own(point: Floats, metric: str) -> str:
    return f"its own {metric} is {point[0]:.4f}."
