"""Dominance, hypervolume and the choice of one point from a front; two objectives, both maximised."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The chosen point's index and the reason for it, one sentence with numbers."""

    index: int
    reason: str


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point beats: at least as good in both objectives and better in one.

    Of exact duplicates only the first is kept, so a front has no repeats. O(N log N).

    Args:
        values: float [N, 2], finite, larger is better.

    Returns:
        bool [N].

    Raises:
        ValueError: values is not [N, 2] or holds NaN or infinity.
    """
    points = _points(values)
    # Best first objective first, ties by the second, then by position (lexsort is stable): a point is dominated or
    # repeated exactly if somebody before it is at least as good in the second objective.
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    second = points[order, 1]
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(second)[:-1]))[: len(points)]
    keep = np.zeros(len(points), dtype=np.bool_)
    keep[order] = second > best_before
    return keep


def hypervolume(values: ArrayLike, reference: tuple[float, float] = (0.0, 0.0)) -> float:
    """Area that is dominated by at least one point and lies above the reference point, exact.

    Args:
        values: float [N, 2], finite, larger is better; dominated points add nothing.
        reference: the corner from which the area is measured; points not above it in both objectives add nothing.

    Raises:
        ValueError: values is not [N, 2] or holds NaN or infinity.
    """
    points = _points(values)
    points = points[(points > reference).all(axis=1)]
    front = points[non_dominated(points)]
    front = front[np.argsort(front[:, 0])]
    # Along the front the first objective rises and the second falls: one rectangle per step of the staircase.
    widths = np.diff(front[:, 0], prepend=reference[0])
    return float(widths @ (front[:, 1] - reference[1]))


def choose(
    quality: ArrayLike, filter_rate: ArrayLike, tolerance: float, reference_quality: float | None = None
) -> Choice:
    """Choose the front's highest filter rate whose quality is within `tolerance` (a share) of the reference.

    The reference is the best quality of the front or `reference_quality` (adapting on everything), whichever is
    higher. If no point is that good, the point of best quality is chosen. Ties go to the other objective.

    Args:
        quality: float [N], validation quality, such as HR@10.
        filter_rate: float [N], share of skipped backward passes.
        tolerance: share of the reference that may be lost, in [0, 1).
        reference_quality: validation quality of adapting on every sample, where it was measured.

    Raises:
        ValueError: no points, unequal lengths, a value that is not finite, or a tolerance outside [0, 1).
    """
    points = _points(np.column_stack([quality, filter_rate]))
    if len(points) == 0 or not 0 <= tolerance < 1:
        raise ValueError(f"choose needs points and a tolerance in [0, 1); got {len(points)} points and {tolerance}")
    reference, source = _reference(points, reference_quality)
    floor = (1 - tolerance) * reference
    qualified = np.flatnonzero(points[:, 0] >= floor)
    if len(qualified) == 0:
        index = _best(points, np.arange(len(points)), first=0)
        reason = (
            f"No point of the front reaches {floor:.4f}, which is {1 - tolerance:.1%} of the reference {reference:.4f} "
            f"({source}); this is the point of best quality: {points[index, 0]:.4f} at a filter rate of "
            f"{points[index, 1]:.1%}."
        )
        return Choice(index, reason)
    index = _best(points, qualified, first=1)
    among = "the only point" if len(qualified) == 1 else f"the highest among the {len(qualified)} points"
    reason = (
        f"Its filter rate of {points[index, 1]:.1%} is that of {among} whose quality is at least {floor:.4f}, "
        f"{1 - tolerance:.1%} of the reference {reference:.4f} ({source}); its own is {points[index, 0]:.4f}."
    )
    return Choice(index, reason)


def _points(values: ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"expected values of shape [N, 2], got {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError("values must be finite: a trial without a finite objective has failed")
    return points


def _reference(points: Floats, reference_quality: float | None) -> tuple[float, str]:
    best = float(points[:, 0].max())
    if reference_quality is None or reference_quality <= best:
        return best, "the front's best"
    return reference_quality, "adapting on every sample"


def _best(points: Floats, candidates: NDArray[np.intp], first: int) -> int:
    order = np.lexsort((points[candidates, 1 - first], points[candidates, first]))
    return int(candidates[order[-1]])
