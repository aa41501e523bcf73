"""Reductions of a block of scores, in C and in torch: against plain torch, the softmax against double precision."""

import math

import pytest
import torch
from torch import Tensor

from etarec.kernels import reductions

KINDS = ["random", "ties", "equal", "ascending", "descending", "organ pipe", "one outlier"]

pytestmark = pytest.mark.usefixtures("way")


def scores_of(kind: str, B: int, V: int) -> Tensor:
    generator = torch.Generator().manual_seed(B * V)
    random = torch.randn(B, V, generator=generator)
    return {
        "random": random,
        "ties": random.mul(2).round(),
        "equal": torch.full((B, V), 0.5),
        "ascending": random.sort(1).values,
        "descending": random.sort(1, descending=True).values,
        "organ pipe": -(torch.arange(V).float() - V / 2).abs().repeat(B, 1),
        "one outlier": torch.zeros(B, V).index_fill(1, torch.tensor([V // 2]), 3.0),
    }[kind].contiguous()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("V", [1, 7, 8, 9, 63, 64, 65, 500, 2501])
def test_top_is_the_largest_in_descending_order_at_their_places(kind, V):
    scores = scores_of(kind, 4, V)
    before = scores.clone()
    for top_k in {1, min(2, V), min(10, V), min(60, V), V}:
        values, places = reductions.top(scores, top_k)
        assert torch.equal(values, before.topk(top_k).values)
        assert torch.equal(before.gather(1, places), values)
        assert all(len(set(row)) == top_k for row in places.tolist())
    assert torch.equal(scores, before)


def test_top_of_many_sizes_at_random():
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        V = int(torch.randint(1, 3000, (), generator=generator))
        top_k = int(torch.randint(1, V + 1, (), generator=generator))
        scores = torch.stack([torch.randperm(V, generator=generator) for _ in range(2)]).float()  # no ties
        values, places = reductions.top(scores, top_k)
        expected = scores.topk(top_k)
        assert torch.equal(values, expected.values) and torch.equal(places, expected.indices), (V, top_k)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("count", [1, 90])
def test_top_of_scores_that_are_not_finite_is_torchs(wild, count):
    scores = torch.randn(3, 100)
    scores[1, :count] = wild
    values, places = reductions.top(scores, 20)
    torch.testing.assert_close(values, scores.topk(20).values, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(scores.gather(1, places), values, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_count_of_scores_not_below_the_bound(kind):
    scores = scores_of(kind, 5, 301)
    scores[0, 3] = float("nan")
    for bound in (scores[:, 7:8].nan_to_num(), torch.full((5, 1), 0.5), torch.full((5, 1), float("inf"))):
        expected = 301 - (scores < bound).sum(1)
        assert torch.equal(reductions.count_not_below(scores.clone(), bound), expected)
    assert (reductions.count_not_below(scores.clone(), torch.full((5, 1), float("nan"))) == 301).all()


def spread_scores(V: int, scale: float) -> Tensor:
    return torch.randn(5, V, generator=torch.Generator().manual_seed(V)) * scale


@pytest.mark.parametrize("V", [1, 2, 7, 8, 31, 32, 33, 71, 1000, 10673])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_softmax_is_that_of_double_precision(V, scale):
    scores = spread_scores(V, scale)
    exact = scores.double()
    p, log_sum = reductions.softmax(scores)
    torch.testing.assert_close(p.double(), exact.softmax(1), rtol=2e-5, atol=1e-35)
    for given in (log_sum, reductions.log_sum_exp(scores)):
        torch.testing.assert_close(given.double(), exact.logsumexp(1, keepdim=True), rtol=2e-6, atol=2e-6)
    assert torch.equal(scores, spread_scores(V, scale))


@pytest.mark.parametrize("place", [0, 5, 63, 70])
def test_softmax_of_scores_that_are_not_finite(place):
    """NaN and plus infinity make their row NaN; minus infinity has no share in its row."""
    scores = spread_scores(71, 3.0)
    for bad, row in ((math.nan, 0), (math.inf, 1), (-math.inf, 2)):
        scores[row, place] = bad
    p, log_sum = reductions.softmax(scores)
    assert p[:2].isnan().all() and log_sum[:2].isnan().all() and reductions.log_sum_exp(scores)[:2].isnan().all()
    torch.testing.assert_close(p[2:], scores[2:].softmax(1))
    torch.testing.assert_close(log_sum[2:], scores[2:].logsumexp(1, keepdim=True))
