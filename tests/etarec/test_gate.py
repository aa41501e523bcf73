"""Entropy, cosine, threshold, moving average and weights, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from small_gates import eta, judge, log_of, random_scores

from etarec import gate, scoring
from etarec.config import Reason
from etarec.gate import Batch


def test_entropy_of_known_distributions():
    scores = log_of([0.5, 0.25, 0.25, 1e-300], [0.25] * 4)
    assert gate.topk_entropy(scores[:, :3]).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])
    assert gate.topk_entropy(scores[:, :2])[0] == pytest.approx(math.log(3) - 2 / 3 * math.log(2))  # renormalised
    assert gate.topk_entropy(scores[:, :1]).tolist() == [0, 0]
    torch.testing.assert_close(gate.topk_entropy(scores + 300), gate.topk_entropy(scores))


def test_entropy_of_a_batch_is_over_the_k_largest_scores():
    judging = eta(top_k=2)
    judge(judging, log_of([0.1, 0.6, 0.0, 0.3], [0.4, 0.2, 0.4, 0.0]).clamp(min=-1e3))
    expected = [math.log(3) - 2 / 3 * math.log(2), math.log(2)]
    assert judging.threshold == pytest.approx(max(expected))


def test_average_is_restricted_to_its_own_top_k_and_has_length_one():
    restricted = gate.restricted(torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64), 2)
    assert restricted.tolist() == pytest.approx([0, 0.5 / math.sqrt(0.34), 0, 0.3 / math.sqrt(0.34)])


@pytest.mark.parametrize(
    ("average", "cosine"),
    [
        ([0.6, 0.4, 0.0, 0.0], 1.0),
        ([0.3, 0.2, 0.1, 0.1], 1.0),  # scale and what lies outside the Top-2 do not matter
        ([0.1, 0.1, 0.3, 0.5], 0.0),  # disjoint Top-2s
        ([0.0, 0.4, 0.3, 0.1], 0.4 * 0.8 / math.sqrt(0.52)),  # item 1 in common: (.6, .4) and (.8, .6) at length one
        ([0.4, 0.6, 0.0, 0.0], 0.48 / 0.52),  # the same items in another order
    ],
)
def test_cosine_by_hand(average, cosine):
    scan = scoring.scan(log_of([0.54, 0.36, 0.06, 0.04]), torch.eye(4, dtype=torch.float64), None, 2)
    direction = gate.restricted(torch.tensor(average, dtype=torch.float64), 2)
    assert float(gate.topk_cosine(scan.top_scores, scan.top_items, direction)) == pytest.approx(cosine, abs=1e-12)


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (1.0, 4.0)])
def test_threshold_is_the_quantile(quantile, expected):
    assert gate.entropy_threshold(torch.tensor([3.0, 1.0, 4.0, 2.0]), quantile) == pytest.approx(expected)


def test_reliable_is_strictly_below_the_threshold_and_uncertain_the_rest():
    entropies = torch.tensor([1.0, 2.0, 3.0])
    assert gate.reliable(entropies, 2.0, "confident").tolist() == [True, False, False]
    assert gate.reliable(entropies, 2.0, "uncertain").tolist() == [False, True, True]


def test_threshold_is_calibrated_on_the_first_batch_only():
    judging = eta(entropy_quantile=0.5, cosine_threshold=1.0, top_k=4)
    first, second = random_scores(9, 12, 0), random_scores(9, 12, 1)
    judge(judging, first)
    expected = np.quantile(gate.topk_entropy(first.topk(4).values).numpy(), 0.5)
    assert judging.threshold == pytest.approx(expected)
    judge(judging, second)
    assert judging.threshold == pytest.approx(expected)


def test_a_fixed_threshold_is_not_calibrated():
    judging = eta(entropy_threshold=0.9, entropy_quantile=0.1, top_k=4)
    scores = random_scores(9, 12, 0)
    decision = judge(judging, scores)
    assert judging.threshold == 0.9
    assert torch.equal(decision.admitted, gate.topk_entropy(scores.topk(4).values) < 0.9)


@pytest.mark.parametrize("top_k", [3, None])
def test_first_batch_is_not_tested_for_redundancy(top_k):
    judging = eta(cosine_threshold=0.0, top_k=top_k, entropy_threshold=9.0)
    scores = random_scores(6, 12, 0)
    assert judge(judging, scores).admitted.all()
    second = judge(judging, scores)
    assert (second.reasons == Reason.REDUNDANCY).all() and not second.admitted.any()


@pytest.mark.parametrize(("epsilon", "new"), [(0.0, False), (1e-9, True)])
def test_new_is_strictly_below_epsilon(epsilon, new):
    judging = eta(cosine_threshold=epsilon, top_k=2, entropy_threshold=9.0)
    judge(judging, log_of([0.5, 0.3, 0.1, 0.1]))
    assert bool(judge(judging, log_of([0.1, 0.1, 0.3, 0.5])).admitted) is new  # disjoint: the cosine is exactly 0


@pytest.mark.parametrize("average_over", ["admitted", "all"])
def test_average_moves_by_a_tenth(average_over):
    """Entropies: ln 2 for (.5, .5, 0, 0), .5004 for (.8, .2, 0, 0); E0 = .6 admits the second kind only."""
    judging = eta(top_k=2, entropy_threshold=0.6, average_over=average_over)
    even, sharp, other = [0.48, 0.48, 0.02, 0.02], [0.76, 0.19, 0.03, 0.02], [0.02, 0.03, 0.19, 0.76]
    judge(judging, log_of(even, sharp))
    first = np.array(sharp) if average_over == "admitted" else np.mean([even, sharp], axis=0)
    np.testing.assert_allclose(judging.average, first)
    decision = judge(judging, log_of(other, even))
    assert decision.admitted.tolist() == [True, False]
    added = np.array(other) if average_over == "admitted" else np.mean([other, even], axis=0)
    np.testing.assert_allclose(judging.average, 0.9 * first + 0.1 * added)


def test_nothing_admitted_leaves_the_average_as_it_was():
    judging = eta(top_k=2, entropy_threshold=0.6)
    even, sharp = log_of([0.48, 0.48, 0.02, 0.02]), log_of([0.76, 0.19, 0.03, 0.02])
    judge(judging, even)
    assert judging.average is None
    assert judge(judging, sharp).admitted.all()  # still no average: still not tested for redundancy
    before = judging.average.clone()
    assert not judge(judging, even).admitted.any()
    assert torch.equal(judging.average, before)


def test_weights_are_exp_of_threshold_minus_entropy():
    scores = random_scores(7, 12, 0)
    decision = judge(eta(top_k=4, entropy_threshold=1.25), scores)
    torch.testing.assert_close(decision.weights, (1.25 - gate.topk_entropy(scores.topk(4).values)).exp())
    assert (decision.weights[decision.admitted] > 1).all()
    assert judge(eta(top_k=4, weighting="none"), scores).weights is None


def test_clamped_weights_end_at_two_nats_and_average_to_one():
    scores = random_scores(9, 40, 0)
    decision = judge(eta(top_k=30, entropy_threshold=3.0, weighting="clamped"), scores)
    away = 3.0 - gate.topk_entropy(scores.topk(30).values)
    assert float(away.max()) > 2 and decision.admitted.any()
    expected = away.clamp(-2, 2).exp()
    torch.testing.assert_close(decision.weights, expected / expected[decision.admitted].mean())
    assert float(decision.weights[decision.admitted].mean()) == pytest.approx(1)


def test_weights_are_clamped_at_both_ends():
    entropies = torch.tensor([0.0, 2.5, 5.0])
    weights = gate.clamped_weight(entropies, 2.5, torch.tensor([False, True, False]))
    assert weights.tolist() == pytest.approx([math.exp(2), 1, math.exp(-2)])


def test_full_entropy_is_top_k_with_all_items():
    scores = random_scores(8, 15, 3)
    top = scores.topk(15)
    judging = eta(top_k=None)
    judge(judging, random_scores(5, 15, 4))
    full = scoring.spread(scores, torch.eye(15, dtype=torch.float64), judging._direction)
    torch.testing.assert_close(full.entropy, gate.topk_entropy(top.values))
    cosines = gate.topk_cosine(top.values, top.indices, gate.restricted(judging.average, 15))
    torch.testing.assert_close(full.along / full.norm, cosines)


@pytest.mark.parametrize("top_k", [None, 15, 16, 500])
def test_top_k_beyond_the_catalogue_is_the_full_entropy(top_k):
    judging, full = (eta(top_k=k, entropy_quantile=0.6, cosine_threshold=0.7) for k in (top_k, None))
    assert judging.scores_needed(15) == 0 and judging.scores_needed(600) == (top_k or 0)
    for batch in range(4):
        mine, other = (judge(each, random_scores(9, 15, batch)) for each in (judging, full))
        assert torch.equal(mine.admitted, other.admitted) and torch.equal(mine.weights, other.weights)


@pytest.mark.parametrize("top_k", [25, 26, 1000, None])
def test_a_top_k_of_the_catalogue_and_beyond_means_all_items(top_k):
    assert gate.effective_top_k(top_k, 25) == 25
    scores = random_scores(20, 25, 0)
    judging, whole = eta(top_k=top_k, entropy_quantile=0.5), eta(top_k=None, entropy_quantile=0.5)
    for batch in scores.split(10):
        mine, other = judge(judging, batch), judge(whole, batch)
        assert torch.equal(mine.reasons, other.reasons) and torch.equal(mine.weights, other.weights)


def test_the_catalogue_and_not_the_width_bounds_k():
    generator = torch.Generator().manual_seed(0)
    hidden, vectors = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (9, 15))
    narrow, wide = (eta(top_k=None, entropy_quantile=0.5) for _ in range(2))
    seen = torch.zeros(9, dtype=torch.bool)
    assert torch.equal(
        narrow.judge(Batch(hidden, vectors, None, None, None, seen)).reasons, judge(wide, hidden @ vectors.T).reasons
    )
    assert narrow.threshold == pytest.approx(wide.threshold)
