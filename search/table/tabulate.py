"""A table's measurements as frames and text: rows over training seeds, and the paired comparisons between rows.

Over several seeds a row's scores per sample are averaged over the seeds first, so that a comparison's interval is over
users, for the mean of these trained models; the spread over seeds stands beside the row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.evaluate import Measurement
from etarec.metrics import QUALITY_METRICS, label, per_sample
from search.records import METRICS, without_idle_columns
from search.report.numbers import percent, signed, significant
from search.selection import stats
from search.selection.differences import METRICS as COMPARED
from search.table_rows import PublishedNumbers

SPREAD = "_sd"
PUBLISHED = "published"
REHEARSAL = "rehearsal"
SPLITS = ("valid", "test", REHEARSAL)
FEWEST_TO_RANK = 4  # rows
_DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Row:
    """One row with everything filled in; its training seed is that of each cell."""

    name: str
    model: ModelConfig
    train: TrainConfig
    adapt: AdaptConfig
    seeds: tuple[int, ...]
    against: tuple[str, ...] = ()
    published: PublishedNumbers | None = None


@dataclass
class Cell:
    """A row's measurements from the checkpoint of one training seed. None: not measured, or not finite."""

    row: str
    seed: int
    epochs: int
    checkpoint: str
    measured: dict[str, Measurement | None] = field(default_factory=dict)  # by split

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
    """table.csv: a line per row, means over its seeds and beside them `_sd`, the sample standard deviation.

    published: whether the published numbers are about these data, and so belong beside ours.
    """
    numbers = [name for name in seeds.columns if name.startswith(tuple(f"{split}_" for split in SPLITS))]
    lines = []
    for row in rows:
        own = seeds[seeds["row"] == row.name]
        about = {"row": row.name, "target": row.adapt.target, "seeds": len(own)}
        line: dict[str, Any] = {**about, "training_epochs": own["training_epochs"].mean()}
        for name in numbers:
            line[name] = own[name].mean()
            if not name.endswith("seconds"):
                line[f"{name}{SPREAD}"] = own[name].std(ddof=1)
        if published:
            told = asdict(row.published or PublishedNumbers())
            line |= {f"published_{name}": math.nan if value is None else value for name, value in told.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def comparisons(rows: Sequence[Row], cells: Sequence[Cell], replicates: int, seed: int) -> pd.DataFrame:
    """comparisons.csv: for every row and each row in its `against`, both metrics, on test and over their common seeds.

    p_holm is corrected over all lines of the table.
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
    """The pairs to compare, with the seeds that both were measured from."""
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
    scores = [_mean_scores(side, metric) for metric in COMPARED for side in (mine, others)]
    sums, counts = stats.per_user_sums(mine[0].users, np.column_stack(scores))
    means = stats.bootstrap_means(sums, counts, replicates, seed)
    return {
        metric: stats.compare(sums, counts, means, 2 * place, 2 * place + 1, seed)._asdict()
        for place, metric in enumerate(COMPARED)
    }


def _mean_scores(measured: Sequence[Measurement], metric: str) -> NDArray[np.float64]:
    """[S], the samples' scores averaged over seeds; the same data give the same samples in the same order."""
    return np.mean([per_sample(one.ranks, metric) for one in measured], axis=0, dtype=np.float64)


def markdown(title: str, table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """table.md: the table as papers print it, ours and the published numbers side by side, then the comparisons."""
    parts = [f"# {title}", _markdown(_cells(table)), _table_note(table)]
    if len(compared):
        parts += ["## Comparisons on test", _markdown(_compared_cells(compared)), _comparison_note(compared)]
    return "\n\n".join(parts) + "\n"


def terminal(table: pd.DataFrame, compared: pd.DataFrame) -> list[Table]:
    """The same for people at a terminal."""
    frames = [_cells(table)] + ([_compared_cells(compared)] if len(compared) else [])
    return [_rich(frame) for frame in frames]


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table's cells as text: quality and the filter rates, each with the published number behind it."""
    shown: dict[str, list[str]] = {"model": list(table["row"])}
    for name in QUALITY_METRICS:
        word = label(name)
        shown[word] = [
            _quality(*pair) for pair in zip(table[f"test_{name}"], table[f"test_{name}{SPREAD}"], strict=True)
        ]
        if f"published_{name}" in table and table[f"published_{name}"].notna().any():
            shown[f"{word} {PUBLISHED}"] = [_quality(value) for value in table[f"published_{name}"]]
    if f"{REHEARSAL}_hr_at_10" in table:
        shown["valid HR@10"], shown["rehearsal HR@10"] = (
            [_quality(value) for value in table[f"{split}_hr_at_10"]] for split in ("valid", REHEARSAL)
        )
    adapting = table["target"] != "none"  # a model that never adapts has nothing to filter
    both = (table[f"{split}_filter_rate"].where(adapting) for split in ("test", "valid"))
    shown["filter rate test (valid)"] = _rates(*both)
    if "published_filter_rate" in table and table["published_filter_rate"].notna().any():
        shown[f"filter rate {PUBLISHED}"] = _rates(table["published_filter_rate"], table["published_valid_filter_rate"])
    shown["seeds"] = [str(count) for count in table["seeds"]]
    return pd.DataFrame(shown)


def _compared_cells(compared: pd.DataFrame) -> pd.DataFrame:
    lines = compared.to_dict("records")
    pairs = [f"{line['row']} against {line['against']}" for line in lines]
    return pd.DataFrame(
        {
            "row": [pair if pair not in pairs[:place] else "" for place, pair in enumerate(pairs)],
            "metric": [label(line["metric"]) for line in lines],
            "difference": [_ranged(line, "difference", "", _difference) for line in lines],
            "relative": [_ranged(line, "relative", "relative_", _share) for line in lines],
            "p": [significant(line["p"]) for line in lines],
            "p (Holm)": [significant(line["p_holm"]) for line in lines],
        }
    )


def _ranged(line: Any, name: str, bounds: str, text: Callable[[float], str]) -> str:
    low, high = line[f"{bounds}low"], line[f"{bounds}high"]
    return text(line[name]) + (f" ({text(low)} to {text(high)})" if math.isfinite(low + high) else "")


def _difference(value: float) -> str:
    """+.0012"""
    return signed(value).replace("0.", ".", 1)


def _quality(value: float | None, spread: float | None = None) -> str:
    """.0875 or .0875 ± .0012; a dash where nothing was measured."""
    if value is None or math.isnan(value):
        return _DASH
    text = f"{value:.4f}".replace("0.", ".", 1)
    return text if spread is None or math.isnan(spread) else f"{text} ± {f'{spread:.4f}'.replace('0.', '.', 1)}"


def _rates(test: Any, valid: Any) -> list[str]:
    return [_rate(*pair) for pair in zip(test, valid, strict=True)]


def _rate(test: float, valid: float) -> str:
    """13.6% (32.9%)"""
    behind = "" if math.isnan(valid) else f" ({percent(valid)})"
    return _DASH if math.isnan(test) else percent(test) + behind


def _share(value: float) -> str:
    """+1.2%"""
    text = f"{100 * value:+.1f}%".replace("-", "\N{MINUS SIGN}")
    return _DASH if math.isnan(value) else text if text[1:] != "0.0%" else "0.0%"


def _markdown(cells: pd.DataFrame) -> str:
    aligned = ["---" if place == 0 else "---:" for place in range(len(cells.columns))]
    lines = [list(cells.columns), aligned, *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _rich(cells: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(cells.columns):
        # A number's word over the word for whose it is: side by side they are wider than the numbers.
        table.add_column(name.replace(f" {PUBLISHED}", f"\n{PUBLISHED}"), justify="left" if place == 0 else "right")
    for line in cells.to_numpy().tolist():
        table.add_row(*map(Text, line))
    return table


def _table_note(table: pd.DataFrame) -> str:
    spread = "mean ± standard deviation over training seeds" if (table["seeds"] > 1).any() else "one training seed"
    return f"Test split, {spread}; all items are ranked, ties count against the target." + _agreement(table)


def _agreement(table: pd.DataFrame) -> str:
    """How well the rows' order on validation, and in rehearsal, tells their order on test."""
    columns = [f"{split}_hr_at_10" for split in ("test", "valid", REHEARSAL)]
    if not set(columns) <= set(table) or len(known := table[columns].dropna()) < FEWEST_TO_RANK:
        return ""
    valid, rehearsal = (scipy.stats.spearmanr(known[columns[0]], known[name]).statistic for name in columns[1:])
    return (
        f" Rank correlation of HR@10 with test over {len(known)} rows (Spearman): validation {valid:.2f}, "
        f"rehearsal {rehearsal:.2f}."
    )


def _comparison_note(compared: pd.DataFrame) -> str:
    averaged = " Scores per sample are averaged over training seeds first." if (compared["seeds"] > 1).any() else ""
    return (
        "Differences of the first row minus the second with 95% paired bootstrap intervals over users (relative: the "
        "bootstrap of the ratio), two-sided p-values by flipping the signs of users' differences at random, and Holm's "
        f"correction over the {len(compared)} p-values of this table.{averaged}"
    )
