"""Blocks of scores: they bound the memory, and huge scores pass through them."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from etarec import likelihood, scoring
from tests.etarec.factors import factors

pytestmark = pytest.mark.usefixtures("form_of_blocks")


def test_huge_scores_stay_finite():
    hidden, vectors, targets = factors(20, 1500, 6, torch.float32)
    hidden = (1e4 * hidden).requires_grad_()
    loss = likelihood.cross_entropy(hidden, vectors, targets)
    (gradient,) = torch.autograd.grad(loss, hidden)
    spread = scoring.spread(hidden.detach(), vectors, None)
    assert all(x.isfinite().all() for x in (loss, gradient, *spread))


class Largest(TorchDispatchMode):
    """The most numbers that any tensor of an operation's result has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_never_holds_the_whole_matrix_of_scores():
    hidden, vectors, targets = factors(2000, 3000)
    hidden.requires_grad_()
    with Largest() as largest:
        likelihood.cross_entropy(hidden, vectors, targets).backward()
        scoring.mean_softmax(hidden.detach(), vectors)
        scoring.spread(hidden.detach(), vectors, None)
    assert largest.numbers <= max(2**19, 256 * 1024)
