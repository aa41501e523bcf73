"""A table as Markdown and on the terminal: whole lines, names that stay text, and the numbers of the frames."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_rows import cell, measured, row
from rich.console import Console
from scipy import stats as scipy_stats

from search.table import tabulate, text


@pytest.mark.parametrize("published", [True, False])
def test_the_texts_are_rectangular_and_names_stay_text(rows, cells, published: bool) -> None:
    seeds = tabulate.by_seed(cells)
    table = tabulate.by_row(rows, seeds, published=published)
    compared = tabulate.comparisons(rows, cells, replicates=50, seed=0)
    markdown = text.markdown("title", table, compared)
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert ("| .0872 |" in markdown) is ("13.7% (32.9%)" in markdown) is published
    assert f"{table.test_hr_at_10[1]:.4f} ± {table.test_hr_at_10_sd[1]:.4f}".replace("0.", ".") in markdown
    assert "over the 6 p-values" in markdown and "averaged over training seeds first" in markdown
    rate = f"{table.test_filter_rate[1]:.1%}"
    shown = terminal_of(table, compared)
    assert "a | [b]" in shown and f"{rate} ({rate})" in shown


def terminal_of(table: pd.DataFrame, compared: pd.DataFrame) -> str:
    out = io.StringIO()
    for drawn in text.terminal(table, compared):
        Console(file=out, width=80).print(drawn)
    return out.getvalue()


def test_a_terminal_of_80_columns_has_every_number_whole(rows, cells) -> None:
    long = "loss 50%, corrected, residual, 512 drawn, user by user"
    rows = [replace(each, name=long) if each.name == "static" else each for each in rows]
    cells = [replace(each, row=long) if each.row == "static" else each for each in cells]
    table = tabulate.by_row(rows, tabulate.by_seed(cells), published=True)
    shown = terminal_of(table, tabulate.comparisons(rows, cells, replicates=50, seed=0))
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    for _, line in table.iterrows():
        assert f"{line.test_hr_at_10:.4f}".removeprefix("0") in shown


def test_a_model_that_never_adapts_has_no_filter_rate(rows, cells) -> None:
    table = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    static = text.markdown("", table, pd.DataFrame()).splitlines()[4]
    assert static.startswith("| static |") and "100.0%" not in static


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0123, "+1.2%"), (-0.5, "\N{MINUS SIGN}50.0%"), (0.0, "0.0%"), (np.nan, "\N{EN DASH}")]
)
def test_shares_as_text(value: float, expected: str) -> None:
    assert text._share(value) == expected


def test_the_rank_correlation_with_test_is_said_where_a_rehearsal_was_measured() -> None:
    hits = [0.1, 0.3, 0.5, 0.7, 0.9]
    rows, cells = [row(str(hit), (0,)) for hit in hits], [cell(str(hit), 0, hit) for hit in hits]
    plain = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    assert not [name for name in plain if name.startswith("rehearsal")] and "correlation" not in text.markdown(
        "t", plain, pd.DataFrame()
    )
    for one, hit in zip(cells, [0.3, 0.1, 0.9, 0.5, 0.7], strict=True):
        one.measured[tabulate.REHEARSAL] = measured(hit, 3)
    table = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    assert not [name for name in table if "chance" in name]
    markdown = text.markdown("t", table, pd.DataFrame())
    expected = [
        scipy_stats.spearmanr(table["test_hr_at_10"], table[f"{split}_hr_at_10"])[0] for split in ("valid", "rehearsal")
    ]
    assert expected[1] < 0.9 < expected[0]
    said = f"over 5 rows (Spearman): validation {expected[0]:.2f}, rehearsal {expected[1]:.2f}."
    assert said in markdown and said in " ".join(terminal_of(table, pd.DataFrame()).split())
    assert "| valid HR@10 | rehearsal HR@10 |" in markdown
