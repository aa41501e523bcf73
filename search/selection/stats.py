"""Uncertainty of a measurement: users are resampled, not samples, because the samples of one user are dependent.

U users, S samples, C configurations, R replicates. All configurations are measured on the same samples, so every
comparison is paired.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_CHUNK_CELLS = 2_000_000


class Comparison(NamedTuple):
    """Difference a - b of two means, the same relative to b's mean, their 95% bootstrap intervals, and a p-value."""

    difference: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    p: float


def per_user_sums(groups: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Add up the scores of each user's samples.

    Args:
        groups: int [S], the user of each sample, in any numbering.
        scores: float [S, C] (or [S], one configuration), such as hit@10 as 0 and 1.

    Returns:
        Sums float [U, C] and numbers of samples float [U], users in ascending order.

    Raises:
        ValueError: lengths differ, there are no samples, or a score is not finite.
    """
    users = np.asarray(groups)
    values = np.asarray(scores, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(users) == 0 or len(users) != len(values):
        raise ValueError(f"expected as many groups as scores and at least one, got {len(users)} and {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    _, user = np.unique(users, return_inverse=True)
    sums = np.column_stack([np.bincount(user, weights=column) for column in values.T]).astype(np.float64)
    return sums, np.bincount(user).astype(np.float64)


def bootstrap_means(sums: ArrayLike, counts: ArrayLike, replicates: int, seed: int) -> Floats:
    """Means per sample of bootstrap resamples of users (Efron & Tibshirani 1993, ch. 6; ratio of sums to counts).

    Each replicate draws U users with replacement, the same users for all configurations, in bounded memory.

    Args:
        sums: float [U, C] from `per_user_sums`.
        counts: float [U] from `per_user_sums`.
        replicates: R.
        seed: equal seeds and numbers of users give equal resamples.

    Returns:
        float [R, C].
    """
    totals = np.column_stack([sums, counts]).astype(np.float64)
    users = len(totals)
    rng = np.random.default_rng(seed)
    resampled = [_draw_users(rng, rows, users) @ totals for rows in _chunks(replicates, users)]
    stacked = np.concatenate(resampled)
    return np.asarray(stacked[:, :-1] / stacked[:, -1:])


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis.

    Args:
        samples: float [R, ...], bootstrap replicates.
        level: coverage, in (0, 1).

    Returns:
        Low and high, each of shape [...].
    """
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(samples, dtype=np.float64), [tail, 1 - tail], axis=0)
    return low, high


def compare(
    sums: ArrayLike, counts: ArrayLike, means: ArrayLike, a: int, b: int, seed: int, randomisations: int = 10_000
) -> Comparison:
    """Compare the means of configurations a and b on the same samples.

    The intervals are 95% percentile bootstraps over users. The interval of the relative difference (a - b) / b takes
    numerator and denominator from the same resample, and is NaN where b's mean is 0. `sign_flip_p` gives the p-value.

    Args:
        sums: float [U, C] from `per_user_sums`.
        counts: float [U] from `per_user_sums`.
        means: float [R, C] from `bootstrap_means` of sums and counts.
        a, b: columns of sums.
        seed: of the randomisation.
        randomisations: number of random sign flips.
    """
    columns, replicates = np.asarray(sums, dtype=np.float64), np.asarray(means, dtype=np.float64)
    per_user, samples = columns[:, a] - columns[:, b], np.asarray(counts, dtype=np.float64).sum()
    difference, reference = per_user.sum() / samples, columns[:, b].sum() / samples
    differences = replicates[:, a] - replicates[:, b]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative, ratios = np.divide(difference, reference), differences / replicates[:, b]
    ratios = np.where(np.isfinite(ratios), ratios, np.nan)  # a single resample without a hit makes the interval NaN
    bounds = (*interval(differences), relative if np.isfinite(relative) else np.nan, *interval(ratios))
    p = sign_flip_p(per_user[:, None], seed, randomisations)[0]
    return Comparison(*map(float, (difference, *bounds, p)))


def contrasts(
    sums: ArrayLike, counts: ArrayLike, means: ArrayLike, weights: ArrayLike, seed: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Many comparisons at once: weighted sums of the configurations' means, with weights 1 and -1 for a difference.

    Args:
        sums: float [U, C] from `per_user_sums`.
        counts: float [U] from `per_user_sums`.
        means: float [R, C] from `bootstrap_means` of sums and counts.
        weights: float [C, K], a column for each comparison.
        seed: of the randomisation.

    Returns:
        Values, bounds of their 95% intervals (low, high) and p-values, each float [K].
    """
    columns, combined = np.asarray(sums, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    per_user = columns @ combined
    values = per_user.sum(0) / np.asarray(counts, dtype=np.float64).sum()
    low, high = interval(np.asarray(means, dtype=np.float64) @ combined)
    return values, low, high, sign_flip_p(per_user, seed)


def sign_flip_p(per_user: Floats, seed: int, randomisations: int = 10_000) -> Floats:
    """Two-sided p-values of the hypothesis that per-user differences sum to zero, by random flips of users' signs.

    p = (1 + flips at least as extreme) / (1 + randomisations), which is never 0 (Phipson & Smyth 2010). All comparisons
    use the same flips.

    Args:
        per_user: float [U, C], differences of each user's sums.
        seed: of the flips.
        randomisations: number of random sign flips.

    Returns:
        float [C].
    """
    # Most users' differences are 0, and a flip leaves 0 unchanged: drop these users.
    moved = per_user[(per_user != 0).any(1)]
    # A separate random stream keeps the signs independent of the bootstrap's draws.
    rng = np.random.default_rng([seed, 1])
    total = moved.sum(0)
    # Rounding must not make a tie less extreme than the observation (as in scipy's permutation_test).
    threshold = np.abs(total) - 1e-12 * np.abs(moved).sum(0)
    extreme = np.zeros(per_user.shape[1])
    for rows in _chunks(randomisations, len(moved)):
        bits = np.unpackbits(rng.integers(0, 256, size=(rows, -(-len(moved) // 8)), dtype=np.uint8), axis=1)
        flipped = 2 * (bits[:, : len(moved)].astype(np.float64) @ moved) - total
        extreme += (np.abs(flipped) >= threshold).sum(0)
    return np.asarray((1 + extreme) / (1 + randomisations))


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for the size of their family by Holm's step-down method (1979); controls the family-wise error.

    Args:
        p_values: float [N].

    Returns:
        float [N], in the order of p_values, each at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _chunks(replicates: int, width: int) -> list[int]:
    rows = max(1, min(replicates, _CHUNK_CELLS // max(width, 1)))
    full, rest = divmod(replicates, rows)
    return [rows] * full + [rest] * (rest > 0)


def _draw_users(rng: np.random.Generator, rows: int, users: int) -> Floats:
    """Number of times each user is drawn in each of `rows` resamples: float [rows, U], multinomial."""
    # bincount over uniform draws is multinomial, and for many users several times faster than Generator.multinomial.
    drawn = rng.integers(0, users, size=(rows, users), dtype=np.uint32)
    return np.stack([np.bincount(row, minlength=users) for row in drawn]).astype(np.float64)
