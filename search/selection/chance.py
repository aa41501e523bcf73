"""The gate at random beside a front: at which rates it is measured, and what it would give at the rates in between.

A gate that throws dice at rate r is one configuration; the same ones are measured on both splits. Filtering nothing at
random is adapting on everything, and filtering everything is no adaptation, where what is adapted are the weights.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etarec.config import Reason

RANDOM: Final = "random"  # the baseline at the chosen point's filter rate; those along the front are `random 25%`
EVERYTHING: Final = "all"
NOTHING: Final = "none"
WIDEST = 0.15  # filter rates further apart are not interpolated between


def name(rate: float) -> str:
    """random 25%"""
    return f"{RANDOM} {rate:.0%}"


def at_random(baseline: str) -> bool:
    """Whether a baseline of this name throws dice."""
    return baseline == RANDOM or along_front(baseline)


def along_front(baseline: str) -> bool:
    """Whether a baseline of this name throws dice at a rate of its own, and not at the chosen point's."""
    return baseline.startswith(f"{RANDOM} ")


def on_curve(baseline: str) -> bool:
    """Whether a baseline is a point of chance's curve: its ends filter nothing and everything."""
    return at_random(baseline) or baseline in (EVERYTHING, NOTHING)


def asked_rate(metrics: dict[str, float]) -> float:
    """The share that the gate filtered of the samples that it was asked about; those seen in training come on top."""
    seen = metrics.get(Reason.NOTHING_TO_LEARN.column, 0.0)
    rate = (metrics["filter_rate"] - seen) / (1 - seen) if seen < 1 else 1.0
    return min(max(rate, 0.0), 1.0)


def rates(asked: Sequence[float], points: int) -> list[float]:
    """Rates in whole percent, evenly spread over the front's, its ends included, from 1% to 99%.

    asked: the front points' `asked_rate`.
    """
    if not asked or not points:
        return []
    low, high = max(math.floor(100 * min(asked)), 1), min(math.ceil(100 * max(asked)), 99)
    if low > high:
        return []
    spread = np.linspace(low, high, points) if points > 1 else [(low + high) / 2]
    return sorted({round(percent) / 100 for percent in spread})


def neighbours(filter_rates: ArrayLike, at: float) -> NDArray[np.float64] | None:
    """Weights, float [N], that interpolate linearly between the two measured filter rates around `at`.

    filter_rates: float [N], in any order, NaN where a point was not measured. None where `at` is not between two, or
    these lie further apart than WIDEST: chance's curve bends down, so a straight line over a wide gap runs below it and
    would flatter every gate.
    """
    x = np.asarray(filter_rates, dtype=np.float64)
    below, above = np.flatnonzero(x <= at), np.flatnonzero(x >= at)
    if not len(below) or not len(above):
        return None
    low, high = below[np.argmax(x[below])], above[np.argmin(x[above])]
    if x[high] - x[low] > WIDEST:
        return None
    share = (at - x[low]) / (x[high] - x[low]) if x[high] > x[low] else 0.0
    weights = np.zeros(len(x))
    weights[low] += 1 - share
    weights[high] += share
    return weights
