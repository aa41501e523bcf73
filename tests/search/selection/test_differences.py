"""Differences on test: against everything, the chosen point and chance, corrected over each file's own family."""

from collections.abc import Iterator

import numpy as np
import pytest

from etarec.config import Reason
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS, per_sample
from search.selection import chance, differences, stats
from search.selection.differences import COLUMNS, on_test

USERS = np.repeat(np.arange(80, dtype=np.int32), 5)
NAMES = ["trial-0001", "trial-0002", "none", "all", "random", "random 40%"]
RATES = [0.3, 0.6, 1.0, 0.0, 0.5, 0.4]
HITS = [0.5, 0.45, 0.2, 0.55, 0.45, 0.4]


def measured(hit: float, rate: float, seed: int) -> Measurement:
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random(len(USERS)) < hit, rng.integers(0, 10, len(USERS)), 60).astype(np.int32)
    reasons = np.where(np.arange(len(USERS)) >= round(rate * len(USERS)), Reason.ADMITTED, Reason.ENTROPY)
    return Measurement(USERS, ranks, reasons, dict.fromkeys(SECONDS, 1.0))


@pytest.fixture(scope="module", autouse=True)
def few_points_are_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chance, "WIDEST", 1.0)
        yield


@pytest.fixture(scope="module")
def tests() -> list[Measurement | None]:
    return [measured(hit, rate, seed) for seed, (hit, rate) in enumerate(zip(HITS, RATES, strict=True))]


@pytest.fixture(scope="module")
def table(tests):
    return on_test(NAMES, tests, 2, "trial-0001", 400, 0)


def mean(test: Measurement, metric: str = "hr_at_10") -> float:
    return float(per_sample(test.ranks, metric).mean())


@pytest.mark.parametrize("metric", ["hr_at_10", "ndcg_at_10"])
def test_differences_are_of_what_they_say(table, tests, metric: str) -> None:
    assert table[f"test_delta_{metric}"][1] == pytest.approx(mean(tests[1], metric) - mean(tests[3], metric))
    assert table[f"test_vs_chosen_{metric}"][4] == pytest.approx(mean(tests[4], metric) - mean(tests[0], metric))
    chance = 0.25 * mean(tests[3], metric) + 0.75 * mean(tests[5], metric)  # .3 lies between .0 and .4
    assert table[f"test_vs_random_{metric}"][0] == pytest.approx(mean(tests[0], metric) - chance)
    chance = 0.8 * mean(tests[4], metric) + 0.2 * mean(tests[2], metric)  # .6 lies between .5 and 1
    assert table[f"test_vs_random_{metric}"][1] == pytest.approx(mean(tests[1], metric) - chance)
    low, high = (table[f"test_vs_random_{metric}_{end}"] for end in ("low", "high"))
    assert (low[:2] < table[f"test_vs_random_{metric}"][:2]).all() and (
        table[f"test_vs_random_{metric}"][:2] < high[:2]
    ).all()


def test_interval_and_p_are_those_of_the_statistics(table, tests) -> None:
    sums, counts = stats.per_user_sums(USERS, np.column_stack([per_sample(t.ranks, "hr_at_10") for t in tests]))
    means = stats.bootstrap_means(sums, counts, 400, seed=0)
    alone = stats.compare(sums, counts, means, 1, 3, seed=0)
    row = table.iloc[1]
    assert (row.test_delta_hr_at_10_low, row.test_delta_hr_at_10_high) == pytest.approx((alone.low, alone.high))
    assert row.test_delta_hr_at_10_p == pytest.approx(alone.p, abs=0.01)
    assert (row.test_hr_at_10_low, row.test_hr_at_10_high) == pytest.approx([b[1] for b in stats.interval(means)])


def test_nothing_is_compared_with_chance_that_is_chance(table) -> None:
    assert table.test_vs_random_hr_at_10.notna().tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 6)])
def test_holm_is_over_a_files_comparisons_and_not_over_those_with_itself(table, rows: slice) -> None:
    part = table.iloc[rows]
    p = part[[name for name in COLUMNS if name.endswith("_p")]].to_numpy()
    corrected = part[[name for name in COLUMNS if name.endswith("_p_holm")]].to_numpy()
    with_itself = part[[name for name in COLUMNS if name.endswith("_p")]].to_numpy() == 1
    zero = part[[name.removesuffix("_p") for name in COLUMNS if name.endswith("_p")]].to_numpy() == 0
    family = np.isfinite(p) & ~(with_itself & zero)
    assert corrected[family] == pytest.approx(stats.holm(p[family]))
    assert (corrected[np.isfinite(p) & ~family] == 1).all() and np.isnan(corrected[~np.isfinite(p)]).all()
    assert family.sum() == {0: 2 * 2 * 2 + 2 * 1, 2: 3 * 2 + 4 * 2}[rows.start]


def test_what_was_not_measured_stays_empty(tests) -> None:
    nothing = on_test(NAMES, [None] * 6, 2, "trial-0001", 50, 0)
    assert nothing.isna().all(axis=None) and list(nothing) == COLUMNS and len(nothing) == 6
    some = on_test(NAMES, [tests[0], None, *tests[2:]], 2, "trial-0002", 50, 0)
    assert some.iloc[1].isna().all() and some.test_delta_hr_at_10.notna().tolist() == [True, False] + [True] * 4
    assert some.filter(like="vs_chosen").isna().all(axis=None)
    alone = on_test(NAMES[:1], tests[:1], 1, None, 50, 0)
    assert alone.test_hr_at_10_low.notna().all() and alone.test_delta_hr_at_10.isna().all()


def test_columns_that_were_there_before_still_are() -> None:
    kinds = [f"test_{kind}_hr_at_10{end}" for kind in ("delta", "vs_chosen") for end in ("", "_low", "_high", "_p")]
    assert {"test_hr_at_10_low", "test_hr_at_10_high", *kinds} <= set(differences.COLUMNS)
