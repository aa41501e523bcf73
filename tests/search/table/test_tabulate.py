"""From measurements to the table: means and spreads over seeds, published numbers, paired comparisons, their text."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from etarec.config import AdaptConfig, ModelConfig, Reason, TrainConfig
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS, per_sample
from search.selection.stats import holm
from search.table import tabulate
from search.table.tabulate import Cell, Row
from search.table_rows import PublishedNumbers

USERS = np.repeat(np.arange(60, dtype=np.int32), np.random.default_rng(0).integers(2, 9, 60))


def measured(hit: float, seed: int, filtered: float = 0.0) -> Measurement:
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random(len(USERS)) < hit, rng.integers(0, 10, len(USERS)), 30).astype(np.int32)
    reasons = np.where(np.arange(len(USERS)) >= round(filtered * len(USERS)), Reason.ADMITTED, Reason.ENTROPY)
    return Measurement(USERS, ranks, reasons, dict.fromkeys(SECONDS, 2.0 + seed))


def row(name: str, seeds: tuple[int, ...] = (0, 1), **more) -> Row:
    return Row(name, ModelConfig(), TrainConfig(), AdaptConfig(**more.pop("adapt", {})), seeds, **more)


def cell(name: str, seed: int, hit: float, filtered: float = 0.0) -> Cell:
    splits = {"valid": measured(hit, seed + 10, filtered), "test": measured(hit, seed, filtered)}
    return Cell(name, seed, 7 + seed, f"sha{seed}", splits)


@pytest.fixture
def rows() -> list[Row]:
    numbers = PublishedNumbers(hr_at_10=0.0872, filter_rate=0.1373, valid_filter_rate=0.3292)
    static = row("static", adapt={"target": "none"}, published=numbers)
    return [static, row("a | [b]", against=("static",)), row("late", (1, 2), against=("static", "a | [b]"))]


@pytest.fixture
def cells() -> list[Cell]:
    return [
        *(cell("static", seed, 0.3, 1.0) for seed in (0, 1)),
        *(cell("a | [b]", seed, 0.5, 0.25) for seed in (0, 1)),
        cell("late", 1, 0.4),
        Cell("late", 2, 9, "sha2", {"valid": measured(0.4, 5), "test": None}),
    ]


def test_a_line_per_seed_and_a_line_per_row(rows, cells) -> None:
    seeds = tabulate.by_seed(cells)
    assert list(seeds["row"]) == ["static"] * 2 + ["a | [b]"] * 2 + ["late"] * 2
    assert seeds.test_hr_at_10[0] == per_sample(cells[0].measured["test"].ranks, "hr_at_10").mean()  # type: ignore[union-attr]
    assert np.isnan(seeds.test_hr_at_10[5]) and seeds.valid_hr_at_10[5] > 0
    table = tabulate.by_row(rows, seeds, published=True).set_index("row")
    two = seeds.test_ndcg_at_10[2:4]
    assert table.test_ndcg_at_10["a | [b]"] == pytest.approx(two.mean())
    assert table.test_ndcg_at_10_sd["a | [b]"] == pytest.approx(np.std(two, ddof=1))
    assert table.test_hr_at_10["late"] == seeds.test_hr_at_10[4] and np.isnan(table.test_hr_at_10_sd["late"])
    assert (table.training_epochs["static"], table.test_seconds["static"], table.seeds["static"]) == (7.5, 2.5, 2)
    assert table.published_filter_rate["static"] == 0.1373 and np.isnan(table.published_hr_at_10["late"])
    assert not [name for name in tabulate.by_row(rows, seeds, published=False) if "published" in name]


def test_comparisons_average_the_common_seeds_and_agree_with_scipy(rows, cells) -> None:
    compared = tabulate.comparisons(rows, cells, replicates=4000, seed=0)
    assert (
        list(compared["against"]) == ["static"] * 4 + ["a | [b]"] * 2 and list(compared["seeds"]) == [2] * 2 + [1] * 4
    )
    assert compared["p_holm"].tolist() == pytest.approx(holm(compared["p"]).tolist())
    line = compared.iloc[1]
    mine, other = (
        np.mean([per_sample(c.measured["test"].ranks, "ndcg_at_10") for c in part], axis=0)  # type: ignore[union-attr]
        for part in (cells[2:4], cells[:2])
    )
    assert line.difference == pytest.approx(mine.mean() - other.mean())
    assert line.relative == pytest.approx(mine.mean() / other.mean() - 1)
    sums = [np.bincount(USERS, weights=scores) for scores in (mine, other)]
    reference = scipy_stats.bootstrap(
        sums, lambda a, b, axis: a.sum(axis) / b.sum(axis) - 1,
        paired=True, vectorized=True, n_resamples=4000, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    width = reference.high - reference.low
    assert (line.relative_low, line.relative_high) == pytest.approx((reference.low, reference.high), abs=0.08 * width)


def test_what_was_not_measured_is_not_compared(rows, cells) -> None:
    compared = tabulate.comparisons(rows, cells[2:], replicates=50, seed=0)
    assert set(zip(compared["row"], compared["against"], strict=True)) == {("late", "a | [b]")}
    assert len(tabulate.comparisons(rows, [], replicates=50, seed=0)) == 0


@pytest.mark.parametrize("published", [True, False])
def test_the_texts_are_rectangular_and_names_stay_text(rows, cells, published: bool) -> None:
    seeds = tabulate.by_seed(cells)
    table = tabulate.by_row(rows, seeds, published=published)
    compared = tabulate.comparisons(rows, cells, replicates=50, seed=0)
    text = tabulate.markdown("title", table, compared)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert ("| .0872 |" in text) is ("13.7% (32.9%)" in text) is published
    assert f"{table.test_hr_at_10[1]:.4f} ± {table.test_hr_at_10_sd[1]:.4f}".replace("0.", ".") in text
    assert "over the 6 p-values" in text and "averaged over training seeds first" in text
    out = io.StringIO()
    for shown in tabulate.terminal(table, compared):
        Console(file=out, width=200).print(shown)
    rate = f"{table.test_filter_rate[1]:.1%}"
    assert "a | [b]" in out.getvalue() and f"{rate} ({rate})" in out.getvalue()


def test_a_model_that_never_adapts_has_no_filter_rate(rows, cells) -> None:
    table = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    static = tabulate.markdown("", table, pd.DataFrame()).splitlines()[4]
    assert static.startswith("| static |") and "100.0%" not in static


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "+1.2%"), (-0.5, "\N{MINUS SIGN}50.0%"), (0.0, "0.0%"), (np.nan, "\N{EN DASH}")]
)
def test_shares_as_text(value: float, text: str) -> None:
    assert tabulate._share(value) == text


def test_the_rank_correlation_with_test_is_said_where_a_rehearsal_was_measured() -> None:
    hits = [0.1, 0.3, 0.5, 0.7, 0.9]
    rows, cells = [row(str(hit), (0,)) for hit in hits], [cell(str(hit), 0, hit) for hit in hits]
    plain = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    assert not [name for name in plain if name.startswith("rehearsal")] and "correlation" not in tabulate.markdown(
        "t", plain, pd.DataFrame()
    )
    for one, hit in zip(cells, [0.3, 0.1, 0.9, 0.5, 0.7], strict=True):
        one.measured[tabulate.REHEARSAL] = measured(hit, 3)
    table = tabulate.by_row(rows, tabulate.by_seed(cells), published=False)
    assert not [name for name in table if "chance" in name]
    text = tabulate.markdown("t", table, pd.DataFrame())
    expected = [
        scipy_stats.spearmanr(table["test_hr_at_10"], table[f"{split}_hr_at_10"])[0] for split in ("valid", "rehearsal")
    ]
    assert expected[1] < 0.9 < expected[0]
    assert f"over 5 rows (Spearman): validation {expected[0]:.2f}, rehearsal {expected[1]:.2f}." in text
    assert "| valid HR@10 | rehearsal HR@10 |" in text
