"""Differences between the front's points and the baselines on test, with intervals and p-values.

T measured rows, M metrics, C = M T columns of scores (all rows of the first metric first), K comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.metrics import MAIN_METRICS, QualityMetric, per_sample
from search.baselines import ALL, NONE
from search.selection import chance, stats

if TYPE_CHECKING:
    from etarec.evaluate import Measurement  # which imports torch: a report is rendered without

Kind = Literal["delta", "vs_chosen", "vs_random", "vs_none"]
TO_ALL: Final = "delta"
TO_CHOSEN: Final = "vs_chosen"
TO_RANDOM: Final = "vs_random"  # random skipping at the row's own filter rate
TO_NONE: Final = "vs_none"
KINDS: tuple[Kind, ...] = (TO_ALL, TO_CHOSEN, TO_RANDOM, TO_NONE)
NUMBERS = ("", "_low", "_high", "_p", "_p_holm")


def compared(quality: QualityMetric) -> tuple[QualityMetric, ...]:
    """The metrics with differences in a search for `quality`: MAIN_METRICS, and `quality` itself."""
    return tuple(dict.fromkeys((*MAIN_METRICS, quality)))


def interval_columns(metric: QualityMetric) -> list[str]:
    """The columns of a metric's 95% interval."""
    return [f"test_{metric}_{end}" for end in ("low", "high")]


def difference_columns(kind: Kind, metric: QualityMetric) -> list[str]:
    """The columns of a kind of difference: its value, interval, p-value and corrected p-value."""
    return [f"test_{kind}_{metric}{number}" for number in NUMBERS]


def columns(quality: QualityMetric) -> list[str]:
    """The columns of `on_test` in a search for `quality`; the intervals are those of HR@10 and `quality`."""
    intervals = [column for metric in _with_interval(quality) for column in interval_columns(metric)]
    kinds = ((kind, metric) for metric in compared(quality) for kind in KINDS)
    return [*intervals, *(column for kind, metric in kinds for column in difference_columns(kind, metric))]


def _with_interval(quality: QualityMetric) -> tuple[QualityMetric, ...]:
    return tuple(dict.fromkeys((MAIN_METRICS[0], quality)))


@dataclass(frozen=True)
class _Comparison:
    """A row minus another one.

    row: its number in the table.
    contrast: float [T], 1 at the row, and -1 at the other one or weights at several that sum to -1.
    """

    row: int
    kind: Kind
    contrast: NDArray[np.float64]

    @property
    def with_itself(self) -> bool:
        return not self.contrast.any()


def on_test(
    names: Sequence[str],
    tests: Sequence["Measurement | None"],
    quality: QualityMetric,
    *,
    front: int,
    chosen: str | None,
    replicates: int,
    seed: int,
) -> pd.DataFrame:
    """`columns` for rows of points: 95% bootstrap intervals over users, paired differences, randomisation p-values.

    Random skipping at a row's filter rate is interpolated between the measured rates around it; the points of its curve
    are not compared with it. Holm's correction is over all comparisons of the front, and over all of the baselines.

    Args:
        names: the rows' names, the front's first.
        tests: their measurements; None leaves a row empty.
        quality: the metric that was searched for.
        front: number of rows that are the front's.
        chosen: the chosen point's name.
        replicates: number of bootstrap replicates.
        seed: seed of bootstrap and randomisation.
    """
    table = pd.DataFrame(np.nan, index=range(len(names)), columns=columns(quality))
    measured = {row: test for row, test in enumerate(tests) if test is not None}
    if not measured:
        return table
    metrics = compared(quality)
    sums, counts = _per_user_sums(list(measured.values()), metrics)
    means = stats.bootstrap_means(sums, counts, replicates, seed)
    for metric in _with_interval(quality):
        first = metrics.index(metric) * len(measured)
        bounds = stats.interval(means[:, first : first + len(measured)])
        table.loc[list(measured), interval_columns(metric)] = np.column_stack(bounds)
    comparisons = _comparisons(names, measured, chosen)
    if comparisons:
        contrasts = np.kron(np.eye(len(metrics)), np.column_stack([one.contrast for one in comparisons]))
        found = np.array(stats.contrasts(sums, counts, means, contrasts, seed))
        _fill(table, comparisons, metrics, found.reshape(4, len(metrics), len(comparisons)), front)
    return table


def _per_user_sums(
    tests: list["Measurement"], metrics: Sequence[QualityMetric]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the scores, float [U, C], and numbers of samples, float [U], of U users."""
    scores = [per_sample(test.ranks, metric) for metric in metrics for test in tests]
    return stats.per_user_sums(tests[0].users, np.column_stack(scores))


def _comparisons(names: Sequence[str], measured: dict[int, "Measurement"], chosen: str | None) -> list[_Comparison]:
    known = [names[row] for row in measured]
    one = dict(zip(known, np.eye(len(known)), strict=True))
    rates = np.array([1 - test.admitted.mean() for test in measured.values()])
    curve = np.where([chance.on_curve(name) for name in known], rates, np.nan)
    comparisons = []
    for row, name, rate in zip(measured, known, rates, strict=True):
        fixed: dict[Kind, str] = {TO_ALL: ALL, TO_CHOSEN: chosen or "", TO_NONE: NONE}
        others = {kind: one.get(other) for kind, other in fixed.items()}
        others[TO_RANDOM] = None if chance.on_curve(name) else chance.neighbours(curve, float(rate))
        comparisons += [_Comparison(row, kind, one[name] - o) for kind, o in others.items() if o is not None]
    return comparisons


def _fill(
    table: pd.DataFrame,
    comparisons: list[_Comparison],
    metrics: Sequence[QualityMetric],
    found: NDArray[np.float64],
    front: int,
) -> None:
    """Write differences, bounds and p-values, float [4, M, K], and their corrections into the table."""
    for is_front in (True, False):
        mine = np.array([(one.row < front) is is_front for one in comparisons])
        family = mine & [not one.with_itself for one in comparisons]
        corrected = np.ones(found[3].shape)
        corrected[:, family] = stats.holm(found[3][:, family].ravel()).reshape(len(metrics), -1)
        for place in np.flatnonzero(mine):
            one = comparisons[place]
            for number, metric in enumerate(metrics):
                numbers = [*found[:, number, place], corrected[number, place]]
                table.loc[one.row, difference_columns(one.kind, metric)] = numbers
