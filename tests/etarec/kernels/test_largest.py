"""The K largest of a block of scores, and the count: both ways against plain torch, whatever the scores are like."""

import pytest
import torch
from torch import Tensor

from etarec.kernels import largest

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
        values, places = largest.top(scores, top_k)
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
        values, places = largest.top(scores, top_k)
        expected = scores.topk(top_k)
        assert torch.equal(values, expected.values) and torch.equal(places, expected.indices), (V, top_k)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("count", [1, 90])
def test_top_of_scores_that_are_not_finite_is_torch_s(wild, count):
    scores = torch.randn(3, 100)
    scores[1, :count] = wild
    values, places = largest.top(scores, 20)
    torch.testing.assert_close(values, scores.topk(20).values, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(scores.gather(1, places), values, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_count_of_what_is_not_below_the_bound(kind):
    scores = scores_of(kind, 5, 301)
    scores[0, 3] = float("nan")
    for bound in (scores[:, 7:8].nan_to_num(), torch.full((5, 1), 0.5), torch.full((5, 1), float("inf"))):
        expected = 301 - (scores < bound).sum(1)
        assert torch.equal(largest.count_not_below(scores.clone(), bound), expected)
    assert (largest.count_not_below(scores.clone(), torch.full((5, 1), float("nan"))) == 301).all()
