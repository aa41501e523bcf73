"""Random skipping as a curve over the filter rate, interpolated between the rates at which it was measured.

Rate 0 is adapting on every sample; rate 1 is no adaptation, where target `weights` is adapted.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etarec.config import Reason
from search.baselines import ALL, NONE, RANDOM, along_front

MAX_GAP = 0.15  # filter rates further apart are not interpolated between
BESIDE = 0.005  # a filter rate as close to a measured one counts as that
RATE_COLUMNS = ("filter_rate", Reason.NOTHING_TO_LEARN.column)  # from which `gate_rate` follows


def on_curve(baseline: str) -> bool:
    """Whether the baseline of this name is a point of the curve of random skipping, its two ends included."""
    return baseline in (ALL, NONE, RANDOM) or along_front(baseline)


def gate_rate(metrics: Mapping[str, float]) -> float:
    """The share of the samples reaching the gate that it filters; samples with nothing to learn never reach it."""
    seen = metrics.get(Reason.NOTHING_TO_LEARN.column, 0.0)
    rate = (metrics["filter_rate"] - seen) / (1 - seen) if seen < 1 else 1.0
    return min(max(rate, 0.0), 1.0)


def neighbours(filter_rates: ArrayLike, at: float, max_gap: float) -> NDArray[np.float64] | None:
    """Weights that interpolate linearly between the two measured filter rates around `at`, or take the one beside it.

    The curve of random skipping bends down, so a straight line over a wide gap runs below it.

    Args:
        filter_rates: float [N], in any order, NaN where a point was not measured.
        at: the filter rate to interpolate at.
        max_gap: largest distance of the two rates.

    Returns:
        float [N], or None where `at` is not between two filter rates at most `max_gap` apart, nor beside one.
    """
    x = np.asarray(filter_rates, dtype=np.float64)
    beside = np.flatnonzero(np.abs(x - at) <= BESIDE)
    if len(beside):
        return np.eye(len(x))[beside[np.argmin(np.abs(x[beside] - at))]]
    below, above = np.flatnonzero(x <= at), np.flatnonzero(x >= at)
    if not len(below) or not len(above):
        return None
    low, high = below[np.argmax(x[below])], above[np.argmin(x[above])]
    if x[high] - x[low] > max_gap:
        return None
    share = (at - x[low]) / (x[high] - x[low]) if x[high] > x[low] else 0.0
    weights = np.zeros(len(x))
    weights[low] += 1 - share
    weights[high] += share
    return weights
