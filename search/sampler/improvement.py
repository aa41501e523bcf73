"""The expected gain of a front's volume, in closed form for two or three objectives that are all maximised.

The area between a reference corner and a front is a row of strips along the first objective. A new point (y1, y2) gains
in the strip from a to b, whose front has the height h, the width min(y1, b) - a times the height y2 - h, each cut off
at 0. For independent normal y1 and y2 the expectation of the product is the product of the expectations, which
E[(y - c)+] = s phi(z) + (m - c) Phi(z) with z = (m - c) / s gives (Emmerich, Giannakoglou and Naujoks 2006; Yang et
al. 2019, in the form of strips). A third objective cuts the volume into slabs, each with the strips of the points that
reach its top.

Symbols: m mean, s standard deviation, K objectives, P points of the front, N candidates.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from search.selection.pareto import non_dominated

Floats = NDArray[np.float64]


def expected_improvement(
    mean: ArrayLike, deviation: ArrayLike, front: ArrayLike, reference: ArrayLike, most: ArrayLike = np.inf
) -> Floats:
    """The expected gain in area or volume of each candidate.

    Args:
        mean: float [N, K] of the candidates' objectives, larger is better; K is 2 or 3.
        deviation: float [N, K], above 0.
        front: float [P, K], points already reached; dominated ones change nothing.
        reference: float [K], the corner from which the volume counts; points that are not above it add nothing.
        most: float [K], or one number for all: the largest possible objectives; a gain beyond them counts for nothing.

    Returns:
        float [N].
    """
    m, s, corner = np.asarray(mean, float), np.asarray(deviation, float), np.asarray(reference, float)
    reached = np.asarray(front, float).reshape(-1, len(corner))
    reached = reached[(reached > corner).all(axis=1)]
    reached = reached[non_dominated(reached)]
    reached = reached[np.argsort(reached[:, 0], kind="stable")]
    levels = np.vstack([reached, corner])  # the corner has the last place
    bounds = np.broadcast_to(np.asarray(most, float), corner.shape)
    beyond = [_between(m[:, [k]], s[:, [k]], levels[:, k], bounds[k]) for k in range(len(corner))]  # [N, P + 1] each
    if len(corner) == 2:
        return _in_strips(levels, np.arange(len(reached)), beyond)
    gains, above = np.zeros(len(m)), np.zeros(len(m))
    for place in np.argsort(-levels[:, 2], kind="stable"):  # from the top: the slab that ends at the level before
        reaching = np.flatnonzero(reached[:, 2] > levels[place, 2])
        gains += (beyond[2][:, place] - above) * _in_strips(levels, reaching, beyond)
        above = beyond[2][:, place]
    return gains


def _in_strips(levels: Floats, points: NDArray[np.intp], beyond: list[Floats]) -> Floats:
    """The expected gain in area in the plane of the first two objectives.

    Args:
        levels: float [P + 1, K], the front by its first objective, and the corner.
        points: the places of those that bound the area, ascending.
        beyond: of each objective E[(y - level)+], float [N, P + 1].
    """
    corner = len(levels) - 1
    heights = levels[points, 1]
    # A strip is as high as the highest point at or behind its end: the last of the points that are not below it.
    best = [points[place + int(np.argmax(heights[place:]))] for place in range(len(points))]
    left, height = np.append(corner, points).astype(int), np.append(best, corner).astype(int)
    widths = beyond[0][:, left]
    widths = widths - np.column_stack([widths[:, 1:], np.zeros(len(widths))])  # nothing lies beyond the last strip
    gains: Floats = (widths * beyond[1][:, height]).sum(axis=1)
    return gains


def _between(m: Floats, s: Floats, cut: Floats, bound: np.float64) -> Floats:
    """E[(min(y, bound) - cut)+] of normal y."""
    if np.isinf(bound):
        return _above(m, s, cut)
    return np.maximum(_above(m, s, np.minimum(cut, bound)) - _above(m, s, np.full_like(cut, bound)), 0.0)


def _above(m: Floats, s: Floats, cut: Floats) -> Floats:
    """E[(y - cut)+] of normal y."""
    z = (m - cut) / s
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected: Floats = s * density + (m - cut) * ndtr(z)
    return np.maximum(expected, 0.0)
