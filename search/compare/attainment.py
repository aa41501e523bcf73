"""The attainment of repeated searches: at each share of skipped passes the quality that all, half or any of them reach.

Source: empirical attainment surfaces (Fonseca and Fleming, PPSN 1996), here over one objective.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RATES = np.linspace(0, 1, 201)  # shares of skipped passes


def attained(points: ArrayLike) -> Floats:
    """The best quality among the points that skip at least each of RATES, [R]; NaN where no point skips as much.

    Args:
        points: float [N, 2], skipped passes and quality.
    """
    skipped, quality = np.asarray(points, np.float64).reshape(-1, 2).T
    enough = skipped >= RATES[:, None] - 1e-12
    best = np.where(enough, quality, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(best), best, np.nan)


def surfaces(fronts: list[ArrayLike]) -> Floats:
    """The quality that all, at least half and any of the fronts attain at each of RATES, [3, R].

    NaN stands where fewer fronts skip as much.
    """
    each = np.sort(np.nan_to_num(np.stack([attained(front) for front in fronts]), nan=-np.inf), axis=0)[::-1]
    levels = each[[len(fronts) - 1, (len(fronts) + 1) // 2 - 1, 0]]
    return np.where(np.isfinite(levels), levels, np.nan)
