"""The softmax of a block of scores: both ways against torch in double precision."""

import math

import pytest
import torch
from torch import Tensor

from etarec.kernels import softmax

pytestmark = pytest.mark.usefixtures("way")


def scores_of(V: int, scale: float) -> Tensor:
    return torch.randn(5, V, generator=torch.Generator().manual_seed(V)) * scale


@pytest.mark.parametrize("V", [1, 2, 7, 8, 31, 32, 33, 71, 1000, 10673])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_it_is_that_of_double_precision(V, scale):
    scores = scores_of(V, scale)
    exact = scores.double()
    p, log_sum = softmax.softmax(scores)
    torch.testing.assert_close(p.double(), exact.softmax(1), rtol=2e-5, atol=1e-35)
    for given in (log_sum, softmax.log_sum_exp(scores)):
        torch.testing.assert_close(given.double(), exact.logsumexp(1, keepdim=True), rtol=2e-6, atol=2e-6)
    assert torch.equal(scores, scores_of(V, scale))


@pytest.mark.parametrize("place", [0, 5, 63, 70])
def test_scores_that_are_not_finite(place):
    """Not a number where one is, or is infinite; a score of minus infinity has no part in its row."""
    scores = scores_of(71, 3.0)
    for bad, row in ((math.nan, 0), (math.inf, 1), (-math.inf, 2)):
        scores[row, place] = bad
    p, log_sum = softmax.softmax(scores)
    assert p[:2].isnan().all() and log_sum[:2].isnan().all() and softmax.log_sum_exp(scores)[:2].isnan().all()
    torch.testing.assert_close(p[2:], scores[2:].softmax(1))
    torch.testing.assert_close(log_sum[2:], scores[2:].logsumexp(1, keepdim=True))
