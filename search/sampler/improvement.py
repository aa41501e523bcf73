"""The expected gain of a front's area, in closed form for two objectives that are both maximised.

The area between a reference corner and a front is a row of strips along the first objective. A new point (y1, y2) gains
in the strip from a to b, whose front has the height h, the width min(y1, b) - a times the height y2 - h, each cut off
at 0. For independent normal y1 and y2 the expectation of the product is the product of the expectations, which
E[(y - c)+] = s phi(z) + (m - c) Phi(z) with z = (m - c) / s gives (Emmerich, Giannakoglou and Naujoks 2006; Yang et
al. 2019, in the form of strips).

Symbols: m mean, s standard deviation, P points of the front, N candidates.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]


def expected_improvement(mean: ArrayLike, deviation: ArrayLike, front: ArrayLike, reference: ArrayLike) -> Floats:
    """The expected gain in area of each candidate.

    Args:
        mean: float [N, 2] of the candidates' objectives, larger is better.
        deviation: float [N, 2], above 0.
        front: float [P, 2], points already reached; dominated ones change nothing.
        reference: float [2], the corner from which the area counts; points that are not above it add nothing.

    Returns:
        float [N].
    """
    m, s = np.asarray(mean, float), np.asarray(deviation, float)
    left, height = _strips(np.asarray(front, float).reshape(-1, 2), np.asarray(reference, float))
    beyond = _above(m[:, :1], s[:, :1], left)  # [N, P + 1]; nothing lies beyond the last strip
    widths = beyond - np.column_stack([beyond[:, 1:], np.zeros(len(m))])
    gains: Floats = (widths * _above(m[:, 1:], s[:, 1:], height)).sum(axis=1)
    return gains


def _strips(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Where each strip begins along the first objective, and the front's height there, both float [P + 1]."""
    inside = front[(front > reference).all(axis=1)]
    inside = inside[np.argsort(inside[:, 0], kind="stable")]
    heights = np.maximum.accumulate(inside[::-1, 1])[::-1]  # of a dominated point: that of the point beating it
    return np.append(reference[0], inside[:, 0]), np.append(heights, reference[1])


def _above(m: Floats, s: Floats, cut: Floats) -> Floats:
    """E[(y - cut)+] of normal y."""
    z = (m - cut) / s
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected: Floats = s * density + (m - cut) * ndtr(z)
    return np.maximum(expected, 0.0)
