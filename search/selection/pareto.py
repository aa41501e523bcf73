"""Dominance, hypervolume and the choice of one point from a front, for two objectives that are both maximised."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The index of the chosen point, and the reason for the choice as a sentence with numbers."""

    index: int
    reason: str


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates (is at least as good in both objectives and better in one).

    Among exact duplicates only the first is marked, so a front has no repeats. O(N log N).

    Args:
        values: float [N, 2], finite, larger is better.

    Returns:
        bool [N].

    Raises:
        ValueError: values is not [N, 2] or holds NaN or infinity.
    """
    points = _points(values)
    # Sorted by the first objective, then by the second, both descending, then by position (lexsort is stable): a point
    # is dominated or repeated exactly if an earlier one is at least as good in the second objective.
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    second = points[order, 1]
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(second)[:-1]))[: len(points)]
    keep = np.zeros(len(points), dtype=np.bool_)
    keep[order] = second > best_before
    return keep


def hypervolume(values: ArrayLike, reference: tuple[float, float] = (0.0, 0.0)) -> float:
    """Exact area between the reference point and the front of the points.

    Args:
        values: float [N, 2], finite, larger is better; dominated points add nothing.
        reference: corner of the area; points that are not above it in both objectives add nothing.

    Raises:
        ValueError: values is not [N, 2] or holds NaN or infinity.
    """
    points = _points(values)
    points = points[(points > reference).all(axis=1)]
    front = points[non_dominated(points)]
    front = front[np.argsort(front[:, 0])]
    # The first objective rises along the front and the second falls, so the area is one rectangle per step.
    widths = np.diff(front[:, 0], prepend=reference[0])
    return float(widths @ (front[:, 1] - reference[1]))


def choose(
    quality: ArrayLike,
    filter_rate: ArrayLike,
    tolerance: float,
    adapting_on_all: float | None = None,
    *,
    metric: str,
) -> Choice:
    """Choose the front's highest filter rate whose quality is within `tolerance` of the reference.

    The reference is the front's best quality or that of adapting on every sample, whichever is higher. If no point
    reaches it, the point of best quality is chosen. The other objective breaks ties.

    Args:
        quality: float [N], quality on validation.
        filter_rate: float [N], share of skipped backward passes on validation.
        tolerance: share of the reference that may be lost, in [0, 1).
        adapting_on_all: validation quality of adapting on every sample, where it was measured.
        metric: label of the quality metric, such as HR@10, for the reason.

    Raises:
        ValueError: no points, unequal lengths, a value that is not finite, or a tolerance outside [0, 1).
    """
    points = _points(np.column_stack([quality, filter_rate]))
    if len(points) == 0 or not 0 <= tolerance < 1:
        raise ValueError(f"choose needs points and a tolerance in [0, 1); got {len(points)} points and {tolerance}")
    reference, source = _reference(points, adapting_on_all)
    floor = (1 - tolerance) * reference
    least = f"{floor:.4f}, {1 - tolerance:.1%} of the reference {reference:.4f} ({source})"
    qualified = np.flatnonzero(points[:, 0] >= floor)
    if len(qualified) == 0:
        index = _best(points, np.arange(len(points)), first=0)
        value, rate = points[index]
        reason = f"No point's {metric} reaches {least}, so the choice is the point of highest {metric}: {value:.4f} "
        return Choice(index, f"{reason}at a filter rate of {rate:.1%}.")
    index = _best(points, qualified, first=1)
    value, rate = points[index]
    most = f", the most of the {len(qualified)} points" if len(qualified) > 1 else " and is the only point"
    reason = f"It skips {rate:.1%} of the passes{most} whose {metric} is at least {least}; "
    return Choice(index, f"{reason}its own {metric} is {value:.4f}.")


def _points(values: ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"expected values of shape [N, 2], got {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError("values must be finite: a trial without a finite objective has failed")
    return points


def _reference(points: Floats, adapting_on_all: float | None) -> tuple[float, str]:
    best = float(points[:, 0].max())
    if adapting_on_all is None or adapting_on_all <= best:
        return best, "the front's best"
    return adapting_on_all, "adapting on every sample"


def _best(points: Floats, candidates: NDArray[np.intp], first: int) -> int:
    order = np.lexsort((points[candidates, 1 - first], points[candidates, first]))
    return int(candidates[order[-1]])
