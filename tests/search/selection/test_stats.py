import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from search.selection import stats


@pytest.fixture(scope="module")
def made_up():
    """300 users with 1 to 9 samples; users differ, configuration 1 is a noisy copy of 0, configuration 2 is worse."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(300) * 3 + 11, rng.integers(1, 10, 300))
    taste = rng.beta(1, 4, groups.max() + 1)[groups]
    base = rng.random(len(groups)) < taste
    noisy = np.where(rng.random(len(groups)) < 0.03, ~base, base)
    scores = np.column_stack([base, noisy, base & (rng.random(len(groups)) < 0.7)]).astype(float)
    shuffled = rng.permutation(len(groups))
    return groups[shuffled], scores[shuffled]


def test_per_user_sums_by_hand():
    sums, counts = stats.per_user_sums([7, 3, 7, 7], [[1, 0], [0, 1], [1, 1], [0, 1]])
    assert sums.tolist() == [[0, 1], [2, 2]]
    assert counts.tolist() == [1, 3]


def compared(sums, counts, a, b, replicates, seed, randomisations=10_000):
    means = stats.bootstrap_means(sums, counts, replicates, seed)
    return stats.compare(sums, counts, means, a, b, seed, randomisations)


@pytest.mark.parametrize(("groups", "scores"), [([], []), ([1, 2], [1.0]), ([1], [np.nan])])
def test_per_user_sums_refuses_what_does_not_fit(groups, scores):
    with pytest.raises(ValueError, match=r"as many groups|^scores must be finite$"):
        stats.per_user_sums(groups, scores)


def test_bootstrap_agrees_with_scipys_paired_bootstrap(made_up):
    sums, counts = stats.per_user_sums(*made_up)
    ours = stats.interval(stats.bootstrap_means(sums, counts, 6000, seed=0))
    for column, (low, high) in enumerate(zip(*ours, strict=True)):
        reference = scipy_stats.bootstrap(
            (sums[:, column], counts),
            lambda s, n, axis: s.sum(axis) / n.sum(axis),
            paired=True, vectorized=True, n_resamples=6000, method="percentile", rng=1,
        )  # fmt: skip
        width = high - low
        assert low == pytest.approx(reference.confidence_interval.low, abs=0.06 * width)
        assert high == pytest.approx(reference.confidence_interval.high, abs=0.06 * width)


def test_bootstrap_draws_users_and_not_samples():
    """Samples of a user all agree, so the standard error is that of 200 users and not of 200 x 25 samples."""
    groups = np.repeat(np.arange(200), 25)
    scores = (groups % 2).astype(float)
    means = stats.bootstrap_means(*stats.per_user_sums(groups, scores), replicates=4000, seed=3)
    assert means.std() == pytest.approx(0.5 / np.sqrt(200), rel=0.05)


def test_every_user_is_drawn_as_often_as_any_other():
    sums = np.eye(4)
    means = stats.bootstrap_means(sums, np.ones(4), replicates=4000, seed=0)
    assert means.mean(0) == pytest.approx(0.25, abs=0.02)


def test_chunks_hold_all_replicates_in_bounded_memory():
    assert stats._chunks(10, 3 * stats._CHUNK_CELLS) == [1] * 10
    assert stats._chunks(stats._CHUNK_CELLS + 1, 1) == [stats._CHUNK_CELLS, 1]
    assert stats._chunks(5, 0) == [5]


def test_single_precision_is_widened_before_anything_is_computed():
    rng = np.random.default_rng(0)
    sums, counts = rng.random((400, 2), dtype=np.float32), rng.random(400, dtype=np.float32)
    means, p = rng.random((300, 2), dtype=np.float32), rng.random(9, dtype=np.float32)
    weights = np.array([[0.3, 1], [-0.3, -1]], dtype=np.float32)
    wide = [each.astype(np.float64) for each in (sums, counts, means, weights, p)]
    assert stats.compare(sums, counts, means, 0, 1, 0, 99) == stats.compare(*wide[:3], 0, 1, 0, 99)
    for mine, its in zip(stats.contrasts(sums, counts, means, weights, 0), stats.contrasts(*wide[:4], 0), strict=True):
        assert mine.tolist() == its.tolist()
    for given_p, wide_p in zip(stats.interval(means), stats.interval(wide[2]), strict=True):
        assert given_p.tolist() == wide_p.tolist()
    assert stats.holm(p).tolist() == stats.holm(wide[4]).tolist()


def test_bootstrap_is_paired_and_reproducible_whatever_the_chunks(made_up, monkeypatch):
    sums, counts = stats.per_user_sums(*made_up)
    means = stats.bootstrap_means(np.column_stack([sums, sums[:, 0] + counts]), counts, 500, seed=5)
    np.testing.assert_allclose(means[:, 3] - means[:, 0], 1.0)
    monkeypatch.setattr(stats, "_CHUNK_CELLS", 700)
    np.testing.assert_allclose(stats.bootstrap_means(sums, counts, 500, seed=5), means[:, :3])
    assert not np.allclose(stats.bootstrap_means(sums, counts, 500, seed=6), means[:, :3])


def test_interval_closed_form():
    assert stats.interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert stats.interval(np.arange(101.0), level=0.5) == pytest.approx((25, 75))
    low, high = stats.interval(np.stack([np.arange(101.0), -np.arange(101.0)], axis=1))
    assert low.tolist() == pytest.approx([2.5, -97.5]) and high.tolist() == pytest.approx([97.5, -2.5])


def test_randomisation_agrees_with_scipys_permutation_test():
    """A small effect among 40 users, where p is neither 0 nor 1."""
    rng = np.random.default_rng(2)
    sums = rng.normal(0, 1, (40, 2)) + [0.35, 0.0]
    ours = compared(sums, np.ones(40), 0, 1, 10, seed=0, randomisations=40_000)
    reference = scipy_stats.permutation_test(
        (sums[:, 0], sums[:, 1]),
        lambda x, y, axis: (x - y).sum(axis),
        permutation_type="samples", vectorized=True, n_resamples=40_000, rng=1,
    )  # fmt: skip
    assert 0.01 < ours.p < 0.9
    assert ours.p == pytest.approx(reference.pvalue, abs=0.012)


def test_randomisation_is_exact_for_three_users():
    """Two of the 8 sign patterns of (1, 1, 1) have |sum| = 3: p is 1/4."""
    p = compared([[1, 0]] * 3, [1] * 3, 0, 1, 10, seed=0, randomisations=50_000).p
    assert p == pytest.approx(0.25, abs=0.01)


def test_all_sign_patterns_are_drawn_equally_often(monkeypatch):
    """Two of the 256 sign patterns of eight equal users are as extreme as the observed one, in however many chunks."""
    for cells in (stats._CHUNK_CELLS, 8000):
        monkeypatch.setattr(stats, "_CHUNK_CELLS", cells)
        assert stats.sign_flip_p(np.ones((8, 1)), 0, 50_000)[0] == pytest.approx(2 / 256, abs=0.0015)


def test_ten_thousand_flips_unless_asked_otherwise():
    sums, counts, means = np.column_stack([np.ones(60), np.zeros(60)]), np.ones(60), np.zeros((5, 2))
    assert stats.compare(sums, counts, means, 0, 1, 0).p == pytest.approx(1 / 10_001, rel=1e-9)
    assert stats.compare(sums, counts, means, 0, 1, 0, 99).p == pytest.approx(1 / 100, rel=1e-9)
    assert stats.sign_flip_p(sums, 0)[0] == pytest.approx(1 / 10_001, rel=1e-9)


def test_p_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(4)
    ps = [compared(rng.normal(0, 1, (30, 2)), np.ones(30), 0, 1, 1, seed, randomisations=400).p for seed in range(400)]
    assert scipy_stats.kstest(ps, "uniform").pvalue > 0.01


def test_difference_and_its_interval(made_up):
    groups, scores = made_up
    sums, counts = stats.per_user_sums(groups, scores)
    result = compared(sums, counts, 2, 0, 4000, seed=0)
    means = stats.bootstrap_means(sums, counts, 4000, seed=0)
    assert result.difference == pytest.approx(scores[:, 2].mean() - scores[:, 0].mean())
    assert (result.low, result.high) == pytest.approx(stats.interval(means[:, 2] - means[:, 0]))
    assert result.low < result.difference < result.high < 0
    assert result.p == pytest.approx(1 / 10_001)


def test_order_of_the_two_turns_the_difference_around(made_up):
    sums, counts = stats.per_user_sums(*made_up)
    forth, back = (compared(sums, counts, a, b, 2000, seed=1) for a, b in ((0, 1), (1, 0)))
    assert (back.difference, back.low, back.high) == pytest.approx((-forth.difference, -forth.high, -forth.low))
    assert back.p == forth.p


def test_equal_scores_have_no_difference():
    sums, counts = stats.per_user_sums([0, 1, 1, 2], np.full((4, 2), 0.3))
    assert compared(sums, counts, 0, 1, 500, seed=0) == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    low, high = stats.interval(stats.bootstrap_means(sums, counts, 500, seed=0))
    assert (low, high) == (pytest.approx(0.3), pytest.approx(0.3))


def test_seed_reproduces_a_comparison(made_up):
    sums, counts = stats.per_user_sums(*made_up)
    first, second, other = (compared(sums, counts, 0, 1, 300, seed) for seed in (8, 8, 19))
    assert first == second
    assert first.low != other.low and first.p != other.p


def test_a_relative_difference_agrees_with_scipys_bootstrap_of_the_ratio(made_up):
    groups, scores = made_up
    sums, counts = stats.per_user_sums(groups, scores)
    means = stats.bootstrap_means(sums, counts, 6000, seed=0)
    ours = stats.compare(sums, counts, means, 2, 0, seed=0)
    assert ours.relative == pytest.approx(scores[:, 2].mean() / scores[:, 0].mean() - 1)
    reference = scipy_stats.bootstrap(
        (sums[:, 2], sums[:, 0]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis) - 1,
        paired=True, vectorized=True, n_resamples=6000, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    width = reference.high - reference.low
    assert ours.relative_low == pytest.approx(reference.low, abs=0.06 * width)
    assert ours.relative_high == pytest.approx(reference.high, abs=0.06 * width)


def test_a_share_of_nothing_is_not_a_number():
    sums, counts = stats.per_user_sums([0, 1, 2], [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    ours = stats.compare(sums, counts, stats.bootstrap_means(sums, counts, 100, seed=0), 0, 1, seed=0)
    assert ours.difference == pytest.approx(2 / 3) and 0 <= ours.low <= ours.high <= 1
    assert np.isnan([ours.relative, ours.relative_low, ours.relative_high]).all()


def test_comparisons_made_together_are_those_made_alone():
    rng = np.random.default_rng(2)
    differences = rng.normal(0, 1, (40, 3)) * (rng.random((40, 3)) < 0.5) + [0.2, 0.0, 0.0]
    together = stats.sign_flip_p(differences, seed=3, randomisations=20_000)
    alone = [stats.sign_flip_p(differences[:, [c]], seed=4, randomisations=20_000)[0] for c in range(3)]
    assert together == pytest.approx(alone, abs=0.015)
    assert 0.02 < together[0] < 0.5


def test_the_scale_of_one_comparison_does_not_change_the_p_of_another():
    differences = np.random.default_rng(4).normal(0.2, 1, size=(60, 1))
    beside_large = stats.sign_flip_p(np.hstack([differences, 1e13 * np.ones((60, 1))]), seed=3)
    assert beside_large[0] == stats.sign_flip_p(differences, seed=3)[0] < 0.9


def test_a_contrast_of_two_is_their_comparison_and_one_of_three_an_interpolation(made_up):
    groups, scores = made_up
    sums, counts = stats.per_user_sums(groups, scores)
    means = stats.bootstrap_means(sums, counts, 500, seed=0)
    difference, low, high, p = stats.contrasts(sums, counts, means, [[1, -0.25], [-1, 1], [0, -0.75]], seed=0)
    alone = stats.compare(sums, counts, means, 0, 1, seed=0)
    assert (difference[0], low[0], high[0]) == pytest.approx((alone.difference, alone.low, alone.high))
    assert p[0] == pytest.approx(alone.p, abs=0.02)
    mixed = np.column_stack([scores[:, 1], scores[:, [0, 2]] @ [0.25, 0.75]])
    other, counts = stats.per_user_sums(groups, mixed)
    alone = stats.compare(other, counts, stats.bootstrap_means(other, counts, 500, seed=0), 0, 1, seed=0)
    assert (difference[1], low[1], high[1]) == pytest.approx((alone.difference, alone.low, alone.high))


def test_holm_by_hand():
    assert stats.holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert stats.holm([0.7, 0.9]).tolist() == [1.0, 1.0]
    assert stats.holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_step_down_rule_rejects(p_values):
    """Literal rule at level .05: go up through the sorted p-values and stop at the first above .05 / remaining."""
    rejected = set()
    for remaining, index in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        if p_values[index] * remaining > 0.05:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(stats.holm(p_values) <= 0.05).tolist()) == rejected
