"""Points of a front that validation cannot tell apart, and one of each group to measure on test."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etarec.metrics import QualityMetric, per_sample
from search.selection import stats
from search.selection.chance import MAX_GAP
from search.selection.paired import Outcomes

Floats = NDArray[np.float64]


def bootstrapped(
    outcomes: Sequence[Outcomes], users: NDArray[np.integer], quality: QualityMetric, replicates: int, seed: int
) -> Floats:
    """The quality of N configurations in bootstrap resamples of the users, float [replicates, N]."""
    scores = np.column_stack([per_sample(one.ranks, quality) for one in outcomes])
    return stats.bootstrap_means(*stats.per_user_sums(users, scores), replicates, seed)


def grouped(means: Sequence[Floats], filter_rates: ArrayLike) -> list[list[int]]:
    """Neighbours on the front that cannot be told from their group's first point in any quality metric.

    A point belongs to the group if the paired 95% interval of its difference to the first point includes 0 in each
    metric and its filter rate is at most MAX_GAP higher, so that the trade-off keeps its shape.

    Args:
        means: float [R, N] from `bootstrapped`, for each metric.
        filter_rates: float [N], ascending.
    """
    rates, groups = np.asarray(filter_rates, dtype=np.float64), list[list[int]]()
    for place, rate in enumerate(rates):
        first = groups[-1][0] if groups else place
        near = rate - rates[first] <= MAX_GAP
        if groups and near and all(_alike(of_metric, first, place) for of_metric in means):
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def significantly_below(means: Floats, reference: Floats) -> NDArray[np.bool_]:
    """Mark those of N configurations whose paired 95% interval lies wholly below a reference.

    Args:
        means: float [R, N].
        reference: float [R], of the same resamples.
    """
    _, high = stats.interval(means - reference[:, None])
    return np.asarray(high < 0)


def _alike(means: Floats, first: int, other: int) -> bool:
    low, high = stats.interval(means[:, first] - means[:, other])
    return bool(low <= 0 <= high)
