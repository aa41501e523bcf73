"""Random skipping along a front: the rates at which it is measured, and its interpolation between them.

Skipping at random at a rate r is one configuration, measured on both splits. Rate 0 is adapting on every sample; rate 1
is no adaptation, where target `weights` is adapted.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etarec.config import Reason
from search.baselines import ALL, NONE, RANDOM, along_front

MAX_GAP = 0.15  # filter rates further apart are not interpolated between
RATE_COLUMNS = ("filter_rate", Reason.NOTHING_TO_LEARN.column)  # from which `gate_rate` follows


def on_curve(baseline: str) -> bool:
    """Whether the baseline of this name is a point of the curve of random skipping, its two ends included."""
    return baseline in (ALL, NONE, RANDOM) or along_front(baseline)


def gate_rate(metrics: Mapping[str, float]) -> float:
    """The share of the samples reaching the gate that it filters; samples with nothing to learn never reach it."""
    seen = metrics.get(Reason.NOTHING_TO_LEARN.column, 0.0)
    rate = (metrics["filter_rate"] - seen) / (1 - seen) if seen < 1 else 1.0
    return min(max(rate, 0.0), 1.0)


def rates(of_front: Sequence[float], points: int, measured: Sequence[float] = ()) -> list[float]:
    """Rates in whole percent from 1% to 99%, evenly spread from the front's lowest to its highest.

    A measured rate stands for those within half a step of it, and all measured rates are taken where there is no front.

    Args:
        of_front: `gate_rate` of each of its points.
        points: number of rates, apart from measured ones.
        measured: rates at which random skipping was measured before.
    """
    if not of_front or not points:
        return sorted(measured) if points else []
    low, high = max(math.floor(100 * min(of_front)), 1), min(math.ceil(100 * max(of_front)), 99)
    if low > high:
        return []
    spread = np.linspace(low, high, points) / 100 if points > 1 else np.array([(low + high) / 200])
    reach = (high - low) / 100 / max(points - 1, 1) / 2
    inside = [rate for rate in measured if low / 100 <= rate <= high / 100]
    wanted = {round(rate, 2) for rate in spread if all(abs(rate - known) > reach for known in inside)}
    return sorted({*wanted, *inside})


def neighbours(filter_rates: ArrayLike, at: float) -> NDArray[np.float64] | None:
    """Weights that interpolate linearly between the two measured filter rates around `at`.

    Args:
        filter_rates: float [N], in any order, NaN where a point was not measured.
        at: the filter rate to interpolate at.

    Returns:
        float [N], or None where `at` is not between two filter rates, or these are more than MAX_GAP apart: the curve
        of random skipping bends down, so a straight line over a wide gap runs below it and would flatter every gate.
    """
    x = np.asarray(filter_rates, dtype=np.float64)
    below, above = np.flatnonzero(x <= at), np.flatnonzero(x >= at)
    if not len(below) or not len(above):
        return None
    low, high = below[np.argmax(x[below])], above[np.argmin(x[above])]
    if x[high] - x[low] > MAX_GAP:
        return None
    share = (at - x[low]) / (x[high] - x[low]) if x[high] > x[low] else 0.0
    weights = np.zeros(len(x))
    weights[low] += 1 - share
    weights[high] += share
    return weights
