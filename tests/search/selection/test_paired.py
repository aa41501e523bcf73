"""Outcomes as text, and paired differences in standard errors."""

import numpy as np
import pytest

from search.selection.paired import Outcomes, users_of, users_text, z_scores

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 1001])
def test_outcomes_come_back_from_their_text(samples: int) -> None:
    ranks, admitted = RNG.integers(0, 10_000, samples), RNG.random(samples) < 0.3
    kept = Outcomes.read(Outcomes.of(ranks, admitted).text())
    assert (kept.ranks == np.minimum(ranks, 50)).all() and (kept.admitted == admitted).all()


def test_users_come_back_from_their_text_in_any_order() -> None:
    users = RNG.integers(0, 2**30, 1000).astype(np.int32)
    assert (users_of(users_text(users)) == users).all()
    assert (
        len(users_text(np.arange(100_000, dtype=np.int32))) < 2000
    )  # everybody's first sample, then everybody's second


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA"])
def test_another_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Outcomes.read(text)


def test_a_difference_is_counted_in_standard_errors_over_users() -> None:
    """By hand: 4 users of 2 samples; per-user differences 2, 1, 1, 0 have the mean 1 and the variance 2/3."""
    users = np.repeat(np.arange(4), 2)
    better = np.array([0, 0, 0, 60, 60, 0, 60, 60])
    a, b = Outcomes.of(better, np.zeros(8, bool)), Outcomes.of(np.full(8, 60), np.arange(8) < 4)
    quality, skipped = z_scores(a, b, users, ["hr_at_10"])
    assert quality == pytest.approx(1 / np.sqrt(2 / 3 / 4))
    assert skipped == pytest.approx(1 / np.sqrt(4 / 3 / 4))  # 2, 2, 0, 0
    reverse = z_scores(b, a, users, ["hr_at_10"])
    assert reverse == pytest.approx((-quality, -skipped))
    assert z_scores(a, b, users, ["hr_at_10", "ndcg_at_10"]) == pytest.approx((quality, quality, skipped))  # ranks 0


def test_a_difference_that_all_users_share_is_certain_and_none_is_nothing() -> None:
    users, ranks = np.arange(5), np.zeros(5, int)
    open_gate, closed = Outcomes.of(ranks, np.ones(5, bool)), Outcomes.of(ranks, np.zeros(5, bool))
    assert z_scores(closed, open_gate, users, ["ndcg_at_10"]) == (0.0, np.inf)
    assert z_scores(open_gate, closed, users, ["ndcg_at_10"]) == (0.0, -np.inf)
