"""A table as text: Markdown for table.md, and tables for the terminal."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import scipy.stats
from rich.table import Table
from rich.text import Text

from etarec.metrics import MAIN_METRICS, QUALITY_METRICS, label
from search.markdown import plain
from search.numbers import percent, signed, significant
from search.table.tabulate import REHEARSAL, SPREAD

PUBLISHED = "published"
RANKED_BY = MAIN_METRICS[0]  # the metric by which validation and rehearsal rank the rows
FEWEST_TO_RANK = 4  # rows
FILTERED = "filter rate test (valid)"
# Of the columns, those that a terminal of 80 has room for.
SHOWN = ("model", *(label(name) for name in MAIN_METRICS), FILTERED, "learning s", "seeds")
SHOWN_COMPARED = ("row", "metric", "relative", "p (Holm)")
WORDS = ("model", "row", "metric")  # columns without numbers
FEEDBACK = {"immediate": "at once", "next_request": "next request"}
_DASH = "\N{EN DASH}"


def markdown(title: str, table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """table.md: the table as papers print it, with published numbers beside ours, then the comparisons."""
    parts = [f"# {plain(title)}", _markdown(_cells(table)), _table_note(table)]
    if len(compared):
        parts += ["## Comparisons on test", _markdown(_compared_cells(compared)), _comparison_note(compared)]
    return "\n\n".join(parts) + "\n"


def terminal(table: pd.DataFrame, compared: pd.DataFrame) -> list[Table | Text]:
    """The main columns of the table and of the comparisons, to be printed in 80 columns."""
    shown: list[Table | Text] = [_rich(_cells(table).filter(SHOWN))]
    if len(compared):
        shown += [Text(), _rich(_compared_cells(compared).filter(SHOWN_COMPARED))]
    if agreement := _agreement(table):
        shown += [Text(), Text(agreement.strip())]
    return [*shown, Text()]


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table's cells as text: qualities and filter rates, each followed by the published number."""
    columns: dict[str, list[str]] = {"model": list(table["row"])}
    for name in QUALITY_METRICS:
        word = label(name)
        columns[word] = [
            _quality(*pair) for pair in zip(table[f"test_{name}"], table[f"test_{name}{SPREAD}"], strict=True)
        ]
        if f"published_{name}" in table and table[f"published_{name}"].notna().any():
            columns[f"{word} {PUBLISHED}"] = [_quality(value) for value in table[f"published_{name}"]]
    if f"{REHEARSAL}_{RANKED_BY}" in table:
        for split in ("valid", REHEARSAL):
            columns[f"{split} {label(RANKED_BY)}"] = [_quality(value) for value in table[f"{split}_{RANKED_BY}"]]
    adapting = table["target"] != "none"  # a model that never adapts filters nothing
    both = (table[f"{split}_filter_rate"].where(adapting) for split in ("test", "valid"))
    columns[FILTERED] = _rates(*both)
    if "published_filter_rate" in table and table["published_filter_rate"].notna().any():
        rates = (table[f"published_{name}"] for name in ("filter_rate", "valid_filter_rate"))
        columns[f"filter rate {PUBLISHED}"] = _rates(*rates)
    columns |= _costs(table[adapting].reindex(table.index))
    if table["feedback"].any():
        columns["feedback"] = [FEEDBACK.get(value, _DASH) for value in table["feedback"]]
    columns["seeds"] = [str(count) for count in table["seeds"]]
    return pd.DataFrame(columns)


def _costs(table: pd.DataFrame) -> dict[str, list[str]]:
    """The costs of learning on test beside the filter rate; the share of shallow steps only where a row has any."""
    columns = {}
    if (table["test_shallow_rate"] > 0).any():
        columns["shallow"] = [_known(value, percent) for value in table["test_shallow_rate"]]
    if table["test_arithmetic"].notna().any():
        columns["transitions a pass"] = [_known(value, "{:.2f}".format) for value in table["test_transitions_per_pass"]]
        columns["computing"] = [_known(value, percent) for value in table["test_arithmetic"]]
        columns["learning s"] = [_known(value, "{:.0f}".format) for value in table["test_adapt_seconds"]]
    return columns


def _known(value: float, text: Callable[[float], str]) -> str:
    return _DASH if math.isnan(value) else text(value)


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
    """A difference of qualities, as in +.0012."""
    return signed(value).replace("0.", ".", 1)


def _quality(value: float | None, spread: float | None = None) -> str:
    """A quality, as in .0875 or .0875 ± .0012; a dash where nothing was measured."""
    if value is None or math.isnan(value):
        return _DASH
    text = f"{value:.4f}".replace("0.", ".", 1)
    return text if spread is None or math.isnan(spread) else f"{text} ± {f'{spread:.4f}'.replace('0.', '.', 1)}"


def _rates(test: Any, valid: Any) -> list[str]:
    return [_rate(*pair) for pair in zip(test, valid, strict=True)]


def _rate(test: float, valid: float) -> str:
    """A filter rate on test and, in brackets, on validation, as in 13.6% (32.9%)."""
    behind = "" if math.isnan(valid) else f" ({percent(valid)})"
    return _DASH if math.isnan(test) else percent(test) + behind


def _share(value: float) -> str:
    """A relative difference, as in +1.2%."""
    text = f"{100 * value:+.1f}%".replace("-", "\N{MINUS SIGN}")
    return _DASH if math.isnan(value) else text if text[1:] != "0.0%" else "0.0%"


def _markdown(cells: pd.DataFrame) -> str:
    aligned = ["---" if place == 0 else "---:" for place in range(len(cells.columns))]
    lines = [list(cells.columns), aligned, *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def _rich(cells: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(cells.columns):
        # Two lines: on one, the column's name is wider than its numbers.
        lines = name.replace("rate test", "rate\ntest")
        table.add_column(lines, justify="left" if name in WORDS else "right", no_wrap=place > 0)
    for line in cells.to_numpy().tolist():
        table.add_row(*map(Text, line))
    return table


def _table_note(table: pd.DataFrame) -> str:
    spread = "mean ± standard deviation over training seeds" if (table["seeds"] > 1).any() else "one training seed"
    return (
        f"Test split, {spread}; all items are ranked, ties count against the target."
        + _cost_note(table)
        + _agreement(table)
    )


def _cost_note(table: pd.DataFrame) -> str:
    if not (table["target"] != "none").any():
        return ""
    costs = (
        " The filter rate is the share of samples without a pass over their sequence. Computing is the arithmetic of "
        "learning by formula, relative to adapting on every sample; learning s are its seconds on test."
    )
    feedback = (
        " Feedback: a target is learned at once after its batch was ranked, or at its user's next request; rows under "
        "different feedback know different things."
    )
    return costs + (feedback if table["feedback"].any() else "")


def _agreement(table: pd.DataFrame) -> str:
    """The rank correlations of validation and of the rehearsal with test, where both were measured."""
    columns = [f"{split}_{RANKED_BY}" for split in ("test", "valid", REHEARSAL)]
    if not set(columns) <= set(table) or len(known := table[columns].dropna()) < FEWEST_TO_RANK:
        return ""
    valid, rehearsal = (scipy.stats.spearmanr(known[columns[0]], known[name]).statistic for name in columns[1:])
    return (
        f" Rank correlation of {label(RANKED_BY)} with test over {len(known)} rows (Spearman): validation {valid:.2f}, "
        f"rehearsal {rehearsal:.2f}."
    )


def _comparison_note(compared: pd.DataFrame) -> str:
    averaged = " Scores per sample are averaged over training seeds first." if (compared["seeds"] > 1).any() else ""
    return (
        "Differences of the first row minus the second with 95% paired bootstrap intervals over users (relative: the "
        "bootstrap of the ratio), two-sided p-values by flipping the signs of users' differences at random, and Holm's "
        f"correction over the {len(compared)} p-values of this table.{averaged}"
    )
