"""How good a front is, in two numbers that can fail, because neither pays for what no adaptation gives for free.

Both count the area, or with three objectives the volume, above a corner: the quality of no adaptation, the filter rate
0, and the cost of adapting on everything. K objectives, larger is better.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from etarec.metrics import COST
from search.selection.pareto import hypervolume

AREAS = ("hypervolume", "area_share", "gain_over_dice")  # sizes of the front that provenance.json and MLflow hold
Metrics = Mapping[str, float]


def ends(objectives: Sequence[str], none: Metrics, everything: Metrics) -> tuple[list[float], list[float]]:
    """The corner from which the area counts, and the opposite one: the best of no adaptation and of adapting on all.

    Args:
        objectives: names of K objectives.
        none: metrics of no adaptation.
        everything: metrics of adapting on every sample.
    """
    worst = {"filter_rate": 0.0, COST: -everything.get(COST, 1.0)}
    best = {"filter_rate": 1.0, COST: -none.get(COST, 0.0)}
    corner = [worst[name] if name in worst else none[name] for name in objectives]
    return corner, [best[name] if name in best else everything[name] for name in objectives]


def area_share(points: ArrayLike, corner: Sequence[float], opposite: Sequence[float]) -> float | None:
    """The share of the area between no adaptation and adapting on everything that lies under the front of the points.

    It is above 1 only where the front goes beyond the opposite corner.

    Args:
        points: float [N, K], trials and anchors.
        corner, opposite: float [K], from `ends`.

    Returns:
        None where adapting on everything is no better than no adaptation, so that there is no such area.
    """
    sides = np.subtract(opposite, corner)
    return hypervolume(points, corner) / float(sides.prod()) if (sides > 0).all() else None


def gain_over_dice(points: ArrayLike, dice: ArrayLike, corner: Sequence[float]) -> float | None:
    """How much larger the area under the trials' front is than that under random skipping, as a share of the latter.

    It is negative where random skipping is ahead.

    Args:
        points: float [N, K], trials.
        dice: float [M, K], random skipping at several rates, with adapting on everything among them.
        corner: float [K], from `ends`.

    Returns:
        None where random skipping covers no area.
    """
    by_chance = hypervolume(dice, corner)
    return (hypervolume(points, corner) - by_chance) / by_chance if by_chance > 0 else None
