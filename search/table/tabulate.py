"""A table's measurements as frames: a line per seed, a line per row, and the paired comparisons between rows.

A comparison averages each row's scores per sample over the seeds first. Its interval is therefore over users, for the
mean of these trained models, and the spread over seeds stands beside each row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etarec.evaluate import Measurement
from etarec.metrics import MAIN_METRICS, per_sample
from search.records.trials_table import METRICS, without_idle_columns
from search.selection import stats
from search.spec.table_rows import PublishedNumbers
from search.table.rows import Row

SPREAD = "_sd"
REHEARSAL = "rehearsal"
SPLITS = ("valid", "test", REHEARSAL)


@dataclass
class Cell:
    """A row's measurements from the checkpoint of one training seed, by split; None where there is no finite one."""

    row: str
    seed: int
    epochs: int
    checkpoint: str
    measured: dict[str, Measurement | None] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | None]:
        """Every metric of each split."""
        values: dict[str, float | None] = {}
        for split in SPLITS:
            there = self.measured.get(split)
            numbers = there.metrics() if there else {}
            values |= {f"{split}_{name}": numbers.get(name) for name in METRICS}
        return values


def by_seed(cells: Sequence[Cell]) -> pd.DataFrame:
    """seeds.csv: a line per row and training seed."""
    rehearsed = any(REHEARSAL in cell.measured for cell in cells)
    metrics = [f"{split}_{name}" for split in SPLITS if split != REHEARSAL or rehearsed for name in METRICS]
    lines = [
        {"row": c.row, "seed": c.seed, "training_epochs": c.epochs, "checkpoint_sha256": c.checkpoint, **c.metrics()}
        for c in cells
    ]
    columns = ["row", "seed", "training_epochs", "checkpoint_sha256", *metrics]
    return without_idle_columns(pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(metrics, float)))


def by_row(rows: Sequence[Row], seeds: pd.DataFrame, *, published: bool) -> pd.DataFrame:
    """table.csv: a line per row with the means over its seeds and, as `_sd`, their sample standard deviations.

    published: whether the published numbers are about these data, and so have columns of their own.
    """
    numbers = [name for name in seeds.columns if name.startswith(tuple(f"{split}_" for split in SPLITS))]
    lines = []
    for row in rows:
        own = seeds[seeds["row"] == row.name]
        feedback = row.adapt.feedback if row.adapt.learns_next_item else ""
        about = {"row": row.name, "target": row.adapt.target, "feedback": feedback, "seeds": len(own)}
        line: dict[str, Any] = {**about, "training_epochs": own["training_epochs"].mean()}
        for name in numbers:
            line[name] = own[name].mean()
            if not name.endswith("seconds"):
                line[f"{name}{SPREAD}"] = own[name].std(ddof=1)
        if published:
            numbers_there = asdict(row.published or PublishedNumbers())
            line |= {f"published_{name}": math.nan if value is None else value for name, value in numbers_there.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def comparisons(rows: Sequence[Row], cells: Sequence[Cell], replicates: int, seed: int) -> pd.DataFrame:
    """comparisons.csv: each row and every row in its `against`, compared on test over their common seeds.

    `p_holm` corrects the p-values of all lines together.
    """
    found = {(cell.row, cell.seed): test for cell in cells if (test := cell.measured.get("test")) is not None}
    lines = []
    for pair, common in _pairs(rows, found).items():
        mine, others = ([found[name, one] for one in common] for name in pair)
        lines += [
            {"row": pair[0], "against": pair[1], "seeds": len(common), "metric": metric, **numbers}
            for metric, numbers in _compared(mine, others, replicates, seed).items()
        ]
    columns = ["row", "against", "seeds", "metric", *stats.Comparison._fields]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.assign(p_holm=stats.holm(frame["p"]) if len(frame) else [])


def _pairs(rows: Sequence[Row], found: Mapping[tuple[str, int], Measurement]) -> dict[tuple[str, str], list[int]]:
    """The pairs to compare, each with the seeds for which both were measured."""
    pairs = {}
    for row in rows:
        for other in row.against:
            common = [seed for seed in row.seeds if {(row.name, seed), (other, seed)} <= found.keys()]
            if common:
                pairs[row.name, other] = common
    return pairs


def _compared(
    mine: Sequence[Measurement], others: Sequence[Measurement], replicates: int, seed: int
) -> dict[str, dict[str, float]]:
    """Paired by user: the rows may serve a user's samples at different places of the stream."""
    both = [_per_user(side, metric) for metric in MAIN_METRICS for side in (mine, others)]
    sums, counts = np.hstack([sums for sums, _ in both]), both[0][1]
    means = stats.bootstrap_means(sums, counts, replicates, seed)
    return {
        metric: stats.compare(sums, counts, means, 2 * place, 2 * place + 1, seed)._asdict()
        for place, metric in enumerate(MAIN_METRICS)
    }


def _per_user(measured: Sequence[Measurement], metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`stats.per_user_sums` of scores averaged over seeds, which serve the same samples in the same order: [U, 1]."""
    scores = np.mean([per_sample(one.ranks, metric) for one in measured], axis=0, dtype=np.float64)
    return stats.per_user_sums(measured[0].users, scores)
