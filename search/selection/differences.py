"""How far the front's points and the baselines lie from each other on test, with intervals and p-values.

T measured rows, C = 2 T columns of scores (hits, then gains), K comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.metrics import per_sample
from search.selection import chance, stats

if TYPE_CHECKING:
    from etarec.evaluate import Measurement  # which imports torch: a report is rendered without

METRICS = ("hr_at_10", "ndcg_at_10")
TO_EVERYTHING, TO_CHOSEN, TO_CHANCE = "delta", "vs_chosen", "vs_random"
COMPARISONS = (TO_EVERYTHING, TO_CHOSEN, TO_CHANCE)  # chance: the gate at random at the row's own filter rate
NUMBERS = ("", "_low", "_high", "_p", "_p_holm")
INTERVAL = [f"test_hr_at_10_{end}" for end in ("low", "high")]
COLUMNS = [
    *INTERVAL,
    *(f"test_{kind}_{metric}{number}" for metric in METRICS for kind in COMPARISONS for number in NUMBERS),
]


@dataclass(frozen=True)
class _Comparison:
    """row: of the table. contrast: float [T], 1 at the row and -1, or weights that add up to it, at the other side."""

    row: int
    kind: str
    contrast: NDArray[np.float64]

    @property
    def with_itself(self) -> bool:
        return not self.contrast.any()


def on_test(
    names: Sequence[str],
    tests: Sequence["Measurement | None"],
    front: int,
    chosen: str | None,
    replicates: int,
    seed: int,
) -> pd.DataFrame:
    """COLUMNS for rows of points: 95% bootstrap intervals over users, paired differences, randomisation p-values.

    Chance at a row's filter rate is interpolated between the gates at random that were measured next to it, which have
    no difference to themselves. Holm's correction is over all comparisons of the front, and over all of the baselines.

    Args:
        names: of the rows, the first `front` of them the front's.
        tests: their measurements; None leaves a row empty.
        chosen: the chosen point's name.
        replicates: of the bootstrap.
        seed: of bootstrap and randomisation.
    """
    table = pd.DataFrame(np.nan, index=range(len(names)), columns=COLUMNS)
    measured = {row: test for row, test in enumerate(tests) if test is not None}
    if not measured:
        return table
    scores = [per_sample(test.ranks, metric) for metric in METRICS for test in measured.values()]
    sums, counts = stats.per_user_sums(next(iter(measured.values())).users, np.column_stack(scores))
    means = stats.bootstrap_means(sums, counts, replicates, seed)
    table.loc[list(measured), INTERVAL] = np.column_stack(stats.interval(means[:, : len(measured)]))
    comparisons = _comparisons(names, measured, chosen)
    if comparisons:
        contrasts = np.column_stack([one.contrast for one in comparisons])
        found = stats.contrasts(sums, counts, means, np.kron(np.eye(len(METRICS)), contrasts), seed)
        _fill(table, comparisons, np.array(found).reshape(4, len(METRICS), len(comparisons)), front)
    return table


def _comparisons(names: Sequence[str], measured: dict[int, "Measurement"], chosen: str | None) -> list[_Comparison]:
    known = [names[row] for row in measured]
    one = dict(zip(known, np.eye(len(known)), strict=True))
    rates = np.array([1 - test.admitted.mean() for test in measured.values()])
    curve = np.where([chance.on_curve(name) for name in known], rates, np.nan)
    comparisons = []
    for row, name, rate in zip(measured, known, rates, strict=True):
        others = {TO_EVERYTHING: one.get(chance.EVERYTHING), TO_CHOSEN: one.get(chosen or "")}
        others[TO_CHANCE] = None if chance.on_curve(name) else chance.neighbours(curve, float(rate))
        comparisons += [_Comparison(row, kind, one[name] - o) for kind, o in others.items() if o is not None]
    return comparisons


def _fill(table: pd.DataFrame, comparisons: list[_Comparison], found: NDArray[np.float64], front: int) -> None:
    """found: float [4, metric, K], differences, bounds and p-values."""
    for is_front in (True, False):
        mine = np.array([(one.row < front) is is_front for one in comparisons])
        family = mine & [not one.with_itself for one in comparisons]
        corrected = np.ones(found[3].shape)
        corrected[:, family] = stats.holm(found[3][:, family].ravel()).reshape(len(METRICS), -1)
        for place in np.flatnonzero(mine):
            one = comparisons[place]
            for number, metric in enumerate(METRICS):
                columns = [f"test_{one.kind}_{metric}{suffix}" for suffix in NUMBERS]
                table.loc[one.row, columns] = [*found[:, number, place], corrected[number, place]]
