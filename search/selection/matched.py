"""Random skipping matched to points of the front: the baseline that skips at random what a point's gate skipped.

A point and its baseline skip equally much on each split, so nothing is interpolated between them. Each baseline adapts
as the chosen point does.
"""

from collections.abc import Sequence

import numpy as np

from search.baselines import RANDOM, random_at
from search.selection.chance import gate_rate
from search.selection.pareto import Choice
from search.selection.point import Point


def partners(front: Sequence[Point], choice: Choice | None, most: int) -> dict[str, Point]:
    """The points to which random skipping is matched, by the baseline's name: `random` for the chosen one.

    The others are those that are measured on test. One that skips as many whole percent as an earlier one has no
    baseline of its own. Without a choice there are none.

    Args:
        front: by filter rate.
        choice: of one of its points.
        most: number of points beside the chosen one; of more, some are taken that are evenly spread.
    """
    if choice is None:
        return {}
    chosen = front[choice.index]
    others = {random_at(rate_of(point)): point for point in reversed(front) if point.retested and point is not chosen}
    others.pop(random_at(rate_of(chosen)), None)
    names = [*reversed(others)]
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return {RANDOM: chosen} | {names[place]: others[names[place]] for place in places}


def rate_of(point: Point) -> float:
    """The rate of a point's baseline on validation, in whole percent from 1% to 99%."""
    return min(max(round(gate_rate(point.valid), 2), 0.01), 0.99)
