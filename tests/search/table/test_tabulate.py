"""From measurements to frames: means and spreads over seeds, published numbers, paired comparisons."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_rows import USERS
from scipy import stats as scipy_stats

from etarec.metrics import per_sample
from search.selection.stats import holm
from search.table import tabulate


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


def test_rows_in_other_orders_of_the_stream_are_paired_by_user(rows, cells) -> None:
    shuffled = np.random.default_rng(5).permutation(len(USERS))
    mixed = []
    for each in cells:
        test = each.measured["test"]
        if each.row != "static" and test is not None:
            arrays = {name: getattr(test, name)[shuffled] for name in ("users", "ranks", "reasons")}
            each = replace(each, measured={**each.measured, "test": replace(test, **arrays)})
        mixed.append(each)
    plain, other = (tabulate.comparisons(rows, some, replicates=500, seed=0) for some in (cells, mixed))
    assert len(plain) > 0
    pd.testing.assert_frame_equal(plain, other)


def test_what_was_not_measured_is_not_compared(rows, cells) -> None:
    compared = tabulate.comparisons(rows, cells[2:], replicates=50, seed=0)
    assert set(zip(compared["row"], compared["against"], strict=True)) == {("late", "a | [b]")}
    assert len(tabulate.comparisons(rows, [], replicates=50, seed=0)) == 0
