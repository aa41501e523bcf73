"""How good a front is, in two numbers that can fail, because neither pays for what no adaptation gives for free.

Both count the area above the corner (quality of no adaptation, filter rate 0). Points are (quality, filter rate).
"""

from numpy.typing import ArrayLike

from search.selection.pareto import hypervolume

AREAS = ("hypervolume", "area_share", "gain_over_dice")  # sizes of the front that provenance.json and MLflow hold


def area_share(points: ArrayLike, none: float, everything: float) -> float | None:
    """The share of the area between no adaptation and adapting on everything that lies under the front of the points.

    It is above 1 only where the front has a higher quality than adapting on everything.

    Args:
        points: float [N, 2], trials and anchors.
        none: quality of no adaptation.
        everything: quality of adapting on every sample.

    Returns:
        None where adapting on everything is no better than no adaptation, so that there is no such area.
    """
    return hypervolume(points, (none, 0.0)) / (everything - none) if everything > none else None


def gain_over_dice(points: ArrayLike, dice: ArrayLike, none: float) -> float | None:
    """How much larger the area under the trials' front is than that under random skipping, as a share of the latter.

    It is negative where random skipping is ahead.

    Args:
        points: float [N, 2], trials.
        dice: float [M, 2], random skipping at several rates, with adapting on everything among them.
        none: quality of no adaptation.

    Returns:
        None where random skipping covers no area.
    """
    by_chance = hypervolume(dice, (none, 0.0))
    return (hypervolume(points, (none, 0.0)) - by_chance) / by_chance if by_chance > 0 else None
