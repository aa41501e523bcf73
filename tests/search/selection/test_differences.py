"""Differences on test from adapting on every sample, the chosen point and random skipping, corrected file by file."""

from collections.abc import Iterator

import numpy as np
import pytest

from etarec.config import Reason
from etarec.evaluate import Measurement
from etarec.metrics import QUALITY_METRICS, SECONDS, QualityMetric, per_sample
from search.selection import chance, stats
from search.selection.differences import RIVAL, columns, compared, interval_columns, on_test

USERS = np.repeat(np.arange(80, dtype=np.int32), 5)
NAMES = ["trial-0001", "trial-0002", "none", "all", "random", "random 40%"]
RATES = [0.3, 0.6, 1.0, 0.0, 0.5, 0.4]
HITS = [0.5, 0.45, 0.2, 0.55, 0.45, 0.4]


def measured(hit: float, rate: float, seed: int) -> Measurement:
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random(len(USERS)) < hit, rng.integers(0, 10, len(USERS)), rng.integers(11, 99, len(USERS)))
    reasons = np.where(np.arange(len(USERS)) >= round(rate * len(USERS)), Reason.ADMITTED, Reason.ENTROPY)
    return Measurement(USERS, ranks.astype(np.int32), reasons, dict.fromkeys(SECONDS, 1.0))


@pytest.fixture(scope="module", autouse=True)
def few_points_are_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chance, "MAX_GAP", 1.0)
        yield


@pytest.fixture(scope="module")
def tests() -> list[Measurement | None]:
    return [measured(hit, rate, seed) for seed, (hit, rate) in enumerate(zip(HITS, RATES, strict=True))]


def differences_of(tests, quality="hr_at_10", names=NAMES, front=2, chosen="trial-0001", replicates=400):
    return on_test(names, tests, quality, front=front, chosen=chosen, replicates=replicates, seed=0)


@pytest.fixture(scope="module", params=QUALITY_METRICS)
def quality(request) -> QualityMetric:
    return request.param


@pytest.fixture(scope="module")
def table(tests, quality):
    return differences_of(tests, quality)


def mean(test: Measurement, metric: str = "hr_at_10") -> float:
    return float(per_sample(test.ranks, metric).mean())


def test_differences_are_of_what_they_say(table, tests, quality) -> None:
    for metric in compared(quality):
        means = [mean(test, metric) for test in tests]
        assert table[f"test_delta_{metric}"][1] == pytest.approx(means[1] - means[3])
        assert table[f"test_vs_none_{metric}"][0] == pytest.approx(means[0] - means[2])
        assert table[f"test_vs_chosen_{metric}"][4] == pytest.approx(means[4] - means[0])
        random = 0.25 * means[3] + 0.75 * means[5]  # .3 lies between .0 and .4
        assert table[f"test_vs_random_{metric}"][0] == pytest.approx(means[0] - random)
        low, value, high = (table[f"test_vs_random_{metric}{end}"][0] for end in ("_low", "", "_high"))
        assert low < value < high
        assert np.isnan(table[f"test_vs_random_{metric}"][1])  # .6 lies between .5 and no adaptation, and is no loss


def test_a_matched_row_is_compared_with_its_own_random_skipping(tests) -> None:
    found = on_test(
        NAMES, tests, "hr_at_10", front=2, chosen="trial-0001", replicates=50, seed=0, matched={"trial-0001": "random"}
    )
    assert found.test_vs_random_hr_at_10[0] == pytest.approx(mean(tests[0]) - mean(tests[4]))
    assert np.isnan(found.test_vs_random_hr_at_10[1])


def test_next_to_no_adaptation_only_a_clear_loss_is_a_result(tests) -> None:
    worse = [tests[0], measured(0.05, 0.6, 7), *tests[2:]]
    found = differences_of(worse)
    expected = mean(worse[1]) - 0.8 * mean(tests[4]) - 0.2 * mean(tests[2])
    assert found.test_vs_random_hr_at_10[1] == pytest.approx(expected) and found.test_vs_random_hr_at_10_high[1] < 0


def test_interval_and_p_are_those_of_the_statistics(table, tests, quality) -> None:
    sums, counts = stats.per_user_sums(USERS, np.column_stack([per_sample(t.ranks, quality) for t in tests]))
    means = stats.bootstrap_means(sums, counts, 400, seed=0)
    alone = stats.compare(sums, counts, means, 1, 3, seed=0)
    row = table.iloc[1]
    low, high, p = (row[f"test_delta_{quality}_{end}"] for end in ("low", "high", "p"))
    assert (low, high) == pytest.approx((alone.low, alone.high)) and p == pytest.approx(alone.p, abs=0.015)
    bounds = [row[column] for column in interval_columns(quality)]
    assert bounds == pytest.approx([bound[1] for bound in stats.interval(means)])


def test_random_skipping_is_not_compared_with_itself(table, quality) -> None:
    assert table[f"test_vs_random_{quality}"].notna().tolist() == [True, False, False, False, False, False]


@pytest.mark.parametrize("rivals", [False, True])
@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 6)])
def test_holm_is_over_a_file_s_comparisons_without_those_of_a_row_with_itself(table, quality, rows, rivals) -> None:
    part = table.iloc[rows]
    names = [name for name in columns(quality) if name.endswith("_p") and ("vs_front" in name) is rivals]
    p, corrected = part[names].to_numpy(), part[[f"{name}_holm" for name in names]].to_numpy()
    zero = part[[name.removesuffix("_p") for name in names]].to_numpy() == 0
    family = np.isfinite(p) & ~((p == 1) & zero)
    assert corrected[family] == pytest.approx(stats.holm(p[family]))
    assert (corrected[np.isfinite(p) & ~family] == 1).all() and np.isnan(corrected[~np.isfinite(p)]).all()
    comparisons = {0: 1, 2: 3}[rows.start] if rivals else {0: 3 + 2 + 1, 2: 3 + 4 + 3}[rows.start]
    assert family.sum() == comparisons * len(compared(quality))


def test_a_rival_is_the_best_other_front_point_that_skips_at_least_as_much(table, tests, quality) -> None:
    best = max(NAMES[:2], key=lambda name: mean(tests[NAMES.index(name)], quality))
    # Rates .3 and .6 are the front's; none at 1 and the second point have no rival, random skipping at .5 and .4 one.
    assert table[RIVAL].fillna("").tolist() == ["trial-0002", "", "", best, "trial-0002", "trial-0002"]
    for row in (0, 3, 4, 5):
        rival = NAMES.index(table[RIVAL][row])
        for metric in compared(quality):
            gap = mean(tests[row], metric) - mean(tests[rival], metric)
            assert table[f"test_vs_front_{metric}"][row] == pytest.approx(gap)
    assert table[f"test_vs_front_{quality}"].isna().tolist() == [False, True, True, False, False, False]


def test_rows_without_a_measurement_stay_empty(tests) -> None:
    nothing = differences_of([None] * 6)
    assert nothing.isna().all(axis=None) and list(nothing) == columns("hr_at_10") and len(nothing) == 6
    some = differences_of([tests[0], None, *tests[2:]], chosen="trial-0002", replicates=50)
    assert some.iloc[1].isna().all() and some.test_delta_hr_at_10.notna().tolist() == [True, False] + [True] * 4
    assert some.filter(like="vs_chosen").isna().all(axis=None)
    alone = differences_of(tests[:1], names=NAMES[:1], front=1, chosen=None, replicates=50)
    assert alone.test_hr_at_10_low.notna().all() and alone.test_delta_hr_at_10.isna().all()


def test_the_contract_s_columns_are_there_whatever_is_searched(quality) -> None:
    kinds = [
        f"test_{kind}_hr_at_10{end}"
        for kind in ("delta", "vs_chosen", "vs_none")
        for end in ("", "_low", "_high", "_p")
    ]
    assert {"test_hr_at_10_low", "test_hr_at_10_high", *kinds} <= set(columns(quality))
    own = [f"test_{quality}_low", f"test_{quality}_high", f"test_delta_{quality}", f"test_vs_random_{quality}_p_holm"]
    assert set(own) <= set(columns(quality)) and len(set(columns(quality))) == len(columns(quality))
    # The columns of a search for HR@10 are those of every search, in the same order.
    first = columns("hr_at_10")
    assert [column for column in columns(quality) if column in first] == first


def test_a_search_for_another_metric_leaves_the_intervals_of_hr_at_10_alone(table, tests) -> None:
    expected = differences_of(tests)
    for name in ("test_hr_at_10_low", "test_hr_at_10_high", "test_delta_hr_at_10", "test_delta_hr_at_10_low"):
        assert table[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)


def test_of_several_rivals_the_best_is_taken_and_one_that_skips_as_much_is_one() -> None:
    points = zip([0.3, 0.6, 0.6, 0.9], [0.5, 0.3, 0.7, 0.1], strict=True)
    tests: list[Measurement | None] = [measured(hit, rate, seed) for seed, (rate, hit) in enumerate(points)]
    names = ["low", "weak", "strong", "last"]
    table = differences_of(tests, names=names, front=4, chosen="strong", replicates=20)
    assert table[RIVAL].fillna("").tolist() == ["strong", "strong", "weak", ""]
    table = differences_of(tests, names=names, front=3, chosen="strong", replicates=20)
    assert table[RIVAL].fillna("").tolist() == ["strong", "strong", "weak", ""]
    assert differences_of([None] * 4, names=names, front=4)[RIVAL].isna().all()
