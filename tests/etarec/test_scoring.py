"""Blocked scoring against plain torch on the whole matrix of scores."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import scoring
from tests.etarec.factors import SIZES, factors

pytestmark = pytest.mark.usefixtures("form_of_blocks")


def whole_numbers(B: int, V: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores that every order of summation gives exactly, full of ties."""
    generator = torch.Generator().manual_seed(B * V)
    hidden, vectors = (torch.randint(-2, 3, (n, 4), generator=generator).float() for n in (B, V))
    return hidden, vectors, torch.randint(V, (B,), generator=generator)


@SIZES
def test_rank_counts_the_others_scored_at_least_as_high(B, V):
    hidden, vectors, targets = whole_numbers(B, V)
    scores = hidden @ vectors.T
    at_least = scores >= scores.gather(1, targets[:, None])
    scan = scoring.scan(hidden, vectors, targets, top_k=0)
    assert torch.equal(scan.ranks, at_least.scatter(1, targets[:, None], False).sum(1))
    assert scan.top_scores is None and scan.top_items is None


@SIZES
@pytest.mark.parametrize("top_k", [1, 3, 50, 1500])
def test_top_k_is_that_of_the_whole_row(B, V, top_k):
    hidden, vectors, targets = factors(B, V)
    top_k = min(top_k, V)
    expected = (hidden @ vectors.T).topk(top_k)
    for given in (None, targets):
        scan = scoring.scan(hidden, vectors, given, top_k)
        torch.testing.assert_close(scan.top_scores, expected.values)
        assert torch.equal(scan.top_items, expected.indices)
    assert scoring.scan(hidden, vectors, None, top_k).ranks is None


@SIZES
def test_top_items_of_ties_are_distinct_and_have_their_scores(B, V):
    hidden, vectors, targets = whole_numbers(B, V)
    scan = scoring.scan(hidden, vectors, targets, min(20, V))
    assert torch.equal((hidden @ vectors.T).gather(1, scan.top_items), scan.top_scores)
    assert all(len(set(row)) == len(row) for row in scan.top_items.tolist())


@SIZES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_model_has_its_target_last(B, V, dtype):
    hidden, vectors, targets = factors(B, V, 64, dtype)
    for same in (torch.zeros_like(vectors), vectors[:1].repeat(V, 1)):
        assert (scoring.scan(hidden, same, targets, 0).ranks == V - 1).all()
    assert (scoring.scan(torch.zeros_like(hidden), vectors, targets, 0).ranks == V - 1).all()


@SIZES
def test_ranks_of_real_scores_and_of_twins(B, V):
    """Random scores have no ties; with every item there twice, each target ties with its twin alone."""
    hidden, vectors, targets = factors(B, V, 64)
    scores = hidden @ vectors.T
    own = scores.gather(1, targets[:, None])
    expected = (scores > own).sum(1)
    assert torch.equal(scoring.scan(hidden, vectors, targets, 0).ranks, expected)
    assert torch.equal(scoring.scan(hidden, vectors.repeat(2, 1), targets, 0).ranks, 2 * expected + 1)
    single = scoring.scan(hidden.float(), vectors.float(), targets, 0).ranks
    assert ((single >= expected) & (single <= (scores > own - 1e-4 * own.abs().clamp(min=1)).sum(1) - 1)).all()


@pytest.mark.parametrize("broken", ["hidden", "targets", "others"])
def test_nan_counts_against_the_target(broken):
    hidden, vectors, targets = factors(20, 1500)
    if broken == "hidden":
        hidden[:] = torch.nan
    elif broken == "targets":
        vectors[targets] = torch.nan
    else:
        vectors[torch.isin(torch.arange(1500), targets, invert=True)] = torch.nan
    assert (scoring.scan(hidden, vectors, targets, 0).ranks >= 1500 - 20).all()


@SIZES
def test_spread_and_mean_are_those_of_the_softmax(B, V):
    hidden, vectors, _ = factors(B, V)
    p = (hidden @ vectors.T).softmax(1)
    direction = torch.rand(V, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spread = scoring.spread(hidden, vectors, direction)
    torch.testing.assert_close(spread.entropy, torch.distributions.Categorical(p).entropy())
    torch.testing.assert_close(spread.norm, p.norm(dim=1))
    torch.testing.assert_close(spread.along, p @ direction)
    assert (scoring.spread(hidden, vectors, None).along == 0).all()
    torch.testing.assert_close(scoring.mean_softmax(hidden, vectors), p.mean(0))


@SIZES
@pytest.mark.parametrize("top_k", [0, 3])
def test_a_scan_gives_the_targets_losses_too(B, V, top_k):
    hidden, vectors, targets = factors(B, V)
    scan = scoring.scan(hidden, vectors, targets, min(top_k, V), losses=True)
    torch.testing.assert_close(scan.losses, F.cross_entropy(hidden @ vectors.T, targets, reduction="none"))
    plain = scoring.scan(hidden, vectors, targets, min(top_k, V))
    assert plain.losses is None and torch.equal(scan.ranks, plain.ranks)
