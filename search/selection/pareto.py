"""Dominance, hypervolume and the choice of one point from a front. All objectives are maximised.

Symbols: N points, K objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The index of the chosen point, and the reason for the choice as a sentence with numbers."""

    index: int
    reason: str


@dataclass(frozen=True)
class Saving:
    """The saving of a configuration against adapting on everything, in words."""

    verb: str
    done: str
    noun: str

    def __call__(self, share: float) -> str:
        """It skips 30.0% of the passes"""
        return f"It {self.verb} {share:.1%} of the {self.noun}"

    def at(self, share: float) -> str:
        """with 30.0% of the passes skipped"""
        return f"with {share:.1%} of the {self.noun} {self.done}"


SKIPPING = Saving("skips", "skipped", "passes")
CHEAPER = Saving("saves", "saved", "cost of adapting on everything")


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates (is at least as good in all objectives and better in one).

    Among exact duplicates only the first is marked, so a front has no repeats. O(N log N) for two objectives, otherwise
    O(N F) for a front of F points.

    Args:
        values: float [N, K], finite, larger is better, K at least 2.

    Returns:
        bool [N].

    Raises:
        ValueError: values is not [N, K] or holds NaN or infinity.
    """
    points = _points(values)
    # Sorted by the first objective, then by the next, all descending, then by position (lexsort is stable): a point is
    # dominated or repeated exactly if an earlier one is at least as good in all objectives.
    order = np.lexsort(-points.T[::-1])
    keep = np.zeros(len(points), dtype=np.bool_)
    if points.shape[1] == 2:
        second = points[order, 1]
        best_before = np.concatenate(([-np.inf], np.maximum.accumulate(second)[:-1]))[: len(points)]
        keep[order] = second > best_before
        return keep
    for place in order:
        keep[place] = not (points[keep] >= points[place]).all(axis=1).any()
    return keep


def hypervolume(values: ArrayLike, reference: Sequence[float] | None = None) -> float:
    """Exact area or volume between the reference point and the front of the points.

    Args:
        values: float [N, K], finite, larger is better, K at least 2; dominated points add nothing.
        reference: float [K], corner of the volume, 0 by default; points not above it in all objectives add nothing.

    Raises:
        ValueError: values is not [N, K] or holds NaN or infinity.
    """
    points = _points(values)
    corner = np.zeros(points.shape[1]) if reference is None else np.asarray(reference, dtype=np.float64)
    points = points[(points > corner[: points.shape[1]]).all(axis=1)]
    front = points[non_dominated(points)]
    if points.shape[1] == 2:
        front = front[np.argsort(front[:, 0])]
        # The first objective rises along the front and the second falls, so the area is one rectangle per step.
        widths = np.diff(front[:, 0], prepend=corner[0])
        return float(widths @ (front[:, 1] - corner[1]))
    # Between two heights of the last objective the volume has the base of all points that reach the upper one.
    front = front[np.argsort(-front[:, -1])]
    thickness = front[:, -1] - np.append(front[1:, -1], corner[-1])[: len(front)]
    bases = (hypervolume(front[: place + 1, :-1], corner[:-1].tolist()) for place in range(len(front)))
    return float(sum(depth * base for depth, base in zip(thickness, bases, strict=True)))


def choose(
    quality: ArrayLike,
    saved: ArrayLike,
    tolerance: float,
    adapting_on_all: float | None = None,
    *,
    metric: str,
    saving: Saving = SKIPPING,
) -> Choice:
    """Choose the point that saves most among those whose quality is within `tolerance` of the reference.

    The reference is the front's best quality or that of adapting on every sample, whichever is higher. If no point
    reaches it, the point of best quality is chosen. The other objective breaks ties.

    Args:
        quality: float [N], quality on validation.
        saved: float [N], share of backward passes, or of the cost, that is saved on validation.
        tolerance: share of the reference that may be lost, in [0, 1).
        adapting_on_all: validation quality of adapting on every sample, where it was measured.
        metric: label of the quality metric, such as HR@10, for the reason.
        saving: what is saved, for the reason.

    Raises:
        ValueError: no points, unequal lengths, a value that is not finite, or a tolerance outside [0, 1).
    """
    points = _points(np.column_stack([quality, saved]))
    if len(points) == 0 or not 0 <= tolerance < 1:
        raise ValueError(f"choose needs points and a tolerance in [0, 1); got {len(points)} points and {tolerance}")
    reference, source = _reference(points, adapting_on_all)
    floor = (1 - tolerance) * reference
    least = f"{floor:.4f} ({1 - tolerance:.1%} of {reference:.4f}, {source})"
    qualified = np.flatnonzero(points[:, 0] >= floor)
    if len(qualified) == 0:
        index = _best(points, np.arange(len(points)), first=0)
        value, share = points[index]
        reason = f"No point's {metric} on validation reaches {least}, so the point of highest {metric} is chosen: "
        return Choice(index, f"{reason}{value:.4f} {saving.at(share)}.")
    index = _best(points, qualified, first=1)
    value, share = points[index]
    most = f", the most of the {len(qualified)} points" if len(qualified) > 1 else " and is the only point"
    where = f"whose {metric} on validation is at least {least}. Its own {metric} is {value:.4f}"
    return Choice(index, f"{saving(share)}{most} {where}.")


def _points(values: ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, points.shape[1] if points.ndim == 2 else 2))
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"expected values of shape [N, K] with K > 1, got {list(points.shape)}")
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
