"""Differences between the front's points and the baselines on test, with intervals and p-values.

T measured rows, M metrics, C = M T columns of scores (all rows of the first metric first), K comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.metrics import MAIN_METRICS, QualityMetric, per_sample
from search.baselines import ALL, NONE
from search.selection import chance, stats

if TYPE_CHECKING:
    from etarec.evaluate import Measurement  # which imports torch: a report is rendered without

Kind = Literal["delta", "vs_chosen", "vs_random", "vs_none", "vs_front"]
TO_ALL: Final = "delta"
TO_CHOSEN: Final = "vs_chosen"
TO_RANDOM: Final = "vs_random"  # random skipping at the row's own filter rate
TO_NONE: Final = "vs_none"
TO_FRONT: Final = "vs_front"  # the rival: the front's best other point that skips at least as much
KINDS: tuple[Kind, ...] = (TO_ALL, TO_CHOSEN, TO_RANDOM, TO_NONE, TO_FRONT)
RIVAL = "test_rival"  # the column with the rival's name
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
    return [*intervals, *(column for kind, metric in kinds for column in difference_columns(kind, metric)), RIVAL]


def _with_interval(quality: QualityMetric) -> tuple[QualityMetric, ...]:
    return tuple(dict.fromkeys((MAIN_METRICS[0], quality)))


@dataclass(frozen=True)
class _Comparison:
    """A row minus another one.

    row: its number in the table.
    contrast: float [T], 1 at the row, and -1 at the other one or weights at several that sum to -1.
    family: Holm's correction is over comparisons of one family.
    """

    row: int
    kind: Kind
    contrast: NDArray[np.float64]
    family: tuple[bool, bool]
    one_sided: bool = False  # the other side may be too low, so only a clear loss is a result

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
    matched: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """`columns` for rows of points: 95% bootstrap intervals over users, paired differences, randomisation p-values.

    A row is compared with the random skipping that is matched to it, or else with an interpolation between the measured
    rates around it; the points of that curve are not compared with it. Over a wide gap, and next to no adaptation, the
    interpolation runs below the curve, so only a clear loss against it is a result. Holm's correction is over all
    comparisons of the front, and over all of the baselines; those with a rival are corrected among themselves.

    Args:
        names: the rows' names, the front's first.
        tests: their measurements; None leaves a row empty.
        quality: the metric that was searched for.
        front: number of rows that are the front's.
        chosen: the chosen point's name.
        replicates: number of bootstrap replicates.
        seed: seed of bootstrap and randomisation.
        matched: the baseline of random skipping that skips as much as a row, by the row's name.
    """
    table = pd.DataFrame(np.nan, index=range(len(names)), columns=columns(quality)).astype({RIVAL: object})
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
    rivals = _rivals(measured, quality, front)
    table[RIVAL] = [names[rivals[row]] if row in rivals else None for row in table.index]
    comparisons = _comparisons(names, measured, chosen, rivals, front, matched)
    if comparisons:
        contrasts = np.kron(np.eye(len(metrics)), np.column_stack([one.contrast for one in comparisons]))
        found = np.array(stats.contrasts(sums, counts, means, contrasts, seed))
        _fill(table, comparisons, metrics, found.reshape(4, len(metrics), len(comparisons)))
    return table


def _per_user_sums(
    tests: list["Measurement"], metrics: Sequence[QualityMetric]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the scores, float [U, C], and numbers of samples, float [U], of U users."""
    scores = [per_sample(test.ranks, metric) for metric in metrics for test in tests]
    return stats.per_user_sums(tests[0].users, np.column_stack(scores))


def _rivals(measured: dict[int, "Measurement"], quality: QualityMetric, front: int) -> dict[int, int]:
    """Each row's rival: of the front's other rows that skip at least as much, the one of highest quality."""
    rates = {row: _rate(test) for row, test in measured.items()}
    scores = {row: float(per_sample(test.ranks, quality).mean()) for row, test in measured.items() if row < front}
    found = {}
    for row in measured:
        others = [other for other in scores if other != row and rates[other] >= rates[row]]
        if others:
            found[row] = max(others, key=lambda other: scores[other])
    return found


def _rate(test: "Measurement") -> float:
    return float(1 - test.admitted.mean())


def _comparisons(
    names: Sequence[str],
    measured: dict[int, "Measurement"],
    chosen: str | None,
    rivals: dict[int, int],
    front: int,
    matched: Mapping[str, str],
) -> list[_Comparison]:
    known = [names[row] for row in measured]
    one = dict(zip(known, np.eye(len(known)), strict=True))
    rates = np.array([_rate(test) for test in measured.values()])
    curve = np.where([chance.on_curve(name) for name in known], rates, np.nan)
    # Next to no adaptation the curve is steep, and where filtered samples learn a little it does not end there.
    inner = np.where([name == NONE for name in known], np.nan, curve)
    comparisons = []
    for row, name, rate in zip(measured, known, rates, strict=True):
        rival = names[rivals[row]] if row in rivals else ""
        fixed: dict[Kind, str] = {TO_ALL: ALL, TO_CHOSEN: chosen or "", TO_NONE: NONE, TO_FRONT: rival}
        others = {kind: one.get(other) for kind, other in fixed.items()}
        below_curve = False
        if not chance.on_curve(name):
            own = one.get(matched.get(name, ""))
            own = chance.neighbours(inner, float(rate), chance.MAX_GAP) if own is None else own
            below_curve = own is None
            others[TO_RANDOM] = chance.neighbours(curve, float(rate), 1.0) if own is None else own
        comparisons += [
            _Comparison(
                row,
                kind,
                one[name] - other,
                (row < front, kind == TO_FRONT),
                kind == TO_RANDOM and below_curve,
            )
            for kind, other in others.items()
            if other is not None
        ]
    return comparisons


def _fill(
    table: pd.DataFrame,
    comparisons: list[_Comparison],
    metrics: Sequence[QualityMetric],
    found: NDArray[np.float64],
) -> None:
    """Write differences, bounds and p-values, float [4, M, K], and their corrections into the table."""
    corrected = np.ones(found[3].shape)
    one_sided = np.array([one.one_sided for one in comparisons])
    recorded = ~one_sided | (found[2] < 0)  # [M, K]
    for family in dict.fromkeys(one.family for one in comparisons):
        mine = recorded & np.array([one.family == family and not one.with_itself for one in comparisons])
        corrected[mine] = stats.holm(found[3][mine])
    for number, metric in enumerate(metrics):
        for place in np.flatnonzero(recorded[number]):
            numbers = [*found[:, number, place], corrected[number, place]]
            one = comparisons[place]
            table.loc[one.row, difference_columns(one.kind, metric)] = numbers
