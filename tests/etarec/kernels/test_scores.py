"""Products with all items in C against torch in double precision, at sizes around every edge of a tile."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import likelihood, scoring
from etarec.kernels import build
from etarec.kernels import scores as c_scores

if build.compiler() is None:
    pytest.skip("needs a C compiler", allow_module_level=True)

ROWS = pytest.mark.parametrize("B", [1, 6, 7, 12, 13, 257, 259, 520])
ITEMS = pytest.mark.parametrize("V", [1, 15, 16, 17, 95, 96, 97, 700])
D = 16


def factors(B: int, V: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors behind a first row of their table, as a model's behind the padding."""
    generator = torch.Generator().manual_seed(1000 * B + V)
    hidden, table = (torch.randn(n, D, generator=generator) * scale for n in (B, V + 1))
    return hidden, table[1:], torch.randint(V, (B,), generator=generator)


@ROWS
@ITEMS
def test_counts_sums_and_the_largest(B, V):
    hidden, vectors, _ = factors(B, V)
    assert c_scores.takes(hidden, vectors)
    scores = hidden.double() @ vectors.double().T
    bound = scores.median(1, keepdim=True).values.float() + 1e-3
    top_k = min(V, 9)
    scanned = c_scores.scan(hidden, vectors, bound, top_k, log_sum=True)
    assert torch.equal(scanned.not_below, (scores >= bound).sum(1))
    torch.testing.assert_close(scanned.log_sum.double(), scores.logsumexp(1), rtol=2e-6, atol=2e-6)
    total = c_scores.softmax_sum(hidden, vectors)
    torch.testing.assert_close(total.double(), scores.softmax(1).sum(0), rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(scanned.top_scores.double(), scores.topk(top_k).values, rtol=2e-6, atol=2e-6)
    assert torch.equal(scores.gather(1, scanned.top_items), scores.topk(top_k).values)
    assert c_scores.scan(hidden, vectors, None, 0, log_sum=False) == (None, None, None, None)


@ROWS
@ITEMS
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_the_gradients_of_a_cross_entropy(B, V, needs):
    hidden, vectors, targets = factors(B, V)
    weights = torch.rand(B, generator=torch.Generator().manual_seed(B))
    exact = [x.double().requires_grad_() for x in (hidden, vectors)]
    losses = F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="none")
    expected = torch.autograd.grad((losses * weights).sum(), exact)
    d_vectors = torch.full_like(vectors, math.nan) if needs[1] else None
    log_sums, d_hidden = c_scores.cross_entropy(hidden, vectors, targets, weights, d_vectors, needs[0])
    torch.testing.assert_close(log_sums, torch.logsumexp(hidden @ vectors.T, 1), rtol=2e-6, atol=2e-6)
    for found, gradient, needed in zip((d_hidden, d_vectors), expected, needs, strict=True):
        assert (found is not None) == needed
        if found is not None:
            torch.testing.assert_close(found.double(), gradient, rtol=1e-5, atol=2e-5)


def test_equal_vectors_have_equal_scores():
    hidden, vectors, _ = factors(20, 50)
    scanned = c_scores.scan(hidden, vectors.repeat(2, 1), (hidden @ vectors[7])[:, None] - 1e-4, 12, log_sum=False)
    assert (scanned.not_below % 2 == 0).all()
    pairs = scanned.top_scores.view(20, 6, 2)
    assert torch.equal(pairs[..., 0], pairs[..., 1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad):
    """NaN counts against its target, makes the loss NaN, and leaves the Top-K to torch."""
    hidden, vectors, targets = factors(14, 40)
    hidden[3, 0] = bad
    scanned = c_scores.scan(hidden, vectors, torch.full((14, 1), 1e9), 0, log_sum=True)
    assert scanned.log_sum[3].isnan() and scanned.log_sum[[2, 4, 13]].isfinite().all()
    assert scanned.not_below[3] == (~(hidden[3] @ vectors.T < 1e9)).sum() and (scanned.not_below[[2, 4, 13]] == 0).all()
    assert c_scores.scan(hidden, vectors, None, 5, log_sum=False) is None
    scan = scoring.scan(hidden, vectors, targets, 5, losses=True)
    expected = (hidden @ vectors.T).topk(5)
    torch.testing.assert_close(scan.top_scores, expected.values, equal_nan=True)
    assert scan.losses[3].isnan()


def test_large_scores_do_not_overflow():
    hidden, vectors, targets = factors(9, 200, scale=30.0)
    exact = F.cross_entropy(hidden.double() @ vectors.double().T, targets, reduction="none")
    torch.testing.assert_close(likelihood.losses(hidden, vectors, targets).double(), exact, rtol=1e-5, atol=1e-3)


def test_both_forms_agree(monkeypatch):
    """Losses, gradients and ranks of scoring.py, with scores.c and without."""
    hidden, vectors, targets = factors(300, 500)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(0))
    found = []
    for _ in range(2):
        leaves = [x.clone().requires_grad_() for x in (hidden, torch.cat((torch.zeros(1, D), vectors)))]
        loss = likelihood.cross_entropy(*leaves, targets, weights, padding=1)
        scan = scoring.scan(hidden, vectors, targets, 20, losses=True)
        gradients = torch.autograd.grad(loss, leaves)
        assert not gradients[1][0].any()
        mean = scoring.mean_softmax(hidden, vectors)
        found.append([loss, mean, *gradients, scan.top_scores, scan.losses, scan.ranks.float()])
        monkeypatch.setattr(c_scores, "takes", lambda *_: False)
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
