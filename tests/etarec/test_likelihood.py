"""Losses and gradients in blocks against plain torch on the whole matrix of scores."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import likelihood
from tests.etarec.factors import SIZES, factors

pytestmark = pytest.mark.usefixtures("form_of_blocks")


@SIZES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_torchs_in_value_and_gradients(B, V, weighted, dtype):
    hidden, vectors, targets = factors(B, V, 6, dtype)
    hidden, vectors = hidden.requires_grad_(), vectors.requires_grad_()
    weights = torch.linspace(0, 3, B, dtype=dtype) if weighted else None
    losses = F.cross_entropy(hidden @ vectors.T, targets, reduction="none")
    expected = (losses if weights is None else losses * weights).mean()
    loss = likelihood.cross_entropy(hidden, vectors, targets, weights)
    torch.testing.assert_close(loss, expected)
    for mine, torchs in zip(*(torch.autograd.grad(7 * x, (hidden, vectors)) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(mine, torchs)


@pytest.mark.parametrize("moving", [(True, False), (False, True), (False, False)])
def test_cross_entropy_computes_only_the_needed_gradients(moving):
    hidden, vectors, targets = factors(300, 1500)
    expected = F.cross_entropy(hidden @ vectors.T, targets)
    leaves = [x.requires_grad_(moves) for x, moves in zip((hidden, vectors), moving, strict=True)]
    loss = likelihood.cross_entropy(hidden, vectors, targets)
    torch.testing.assert_close(loss, expected)
    assert loss.requires_grad == any(moving)
    if any(moving):
        loss.backward()
    assert [leaf.grad is not None for leaf in leaves] == list(moving)


def test_cross_entropy_passes_gradcheck():
    hidden, vectors, targets = factors(5, 12)
    weights = torch.tensor([0.0, 1.0, 0.5, 2.0, 3.0], dtype=torch.float64)
    inputs = (hidden.requires_grad_(), vectors.requires_grad_())
    assert torch.autograd.gradcheck(lambda h, v: likelihood.cross_entropy(h, v, targets, weights), inputs)


class Draws:
    """A generator whose draw is given."""

    def __init__(self, *items: int):
        self.items = np.array(items)

    def choice(self, n: int, size: int, replace: bool) -> np.ndarray:
        assert len(self.items) == size <= n and not replace
        return self.items


def drawn_loss(hidden: Tensor, vectors: Tensor, targets: Tensor, *drawn: int) -> Tensor:
    return likelihood.drawn_cross_entropy(hidden, vectors, targets, len(drawn), Draws(*drawn))


def literal_drawn_loss(hidden: Tensor, vectors: Tensor, targets: Tensor, *drawn: int) -> Tensor:
    """Row by row, the normaliser as a plain sum."""
    losses = []
    for h, target in zip(hidden, targets.tolist(), strict=True):
        others = [(h @ vectors[item]).exp() for item in drawn if item != target]
        own = h @ vectors[target]
        losses.append((own.exp() + (len(vectors) - 1) / len(others) * sum(others)).log() - own)
    return torch.stack(losses).mean()


def gradients(loss: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    return [g.to_dense() if g.is_sparse else g for g in torch.autograd.grad(loss, leaves)]


@pytest.mark.usefixtures("way")
def test_drawn_cross_entropy_is_the_literal_one():
    """In value and gradients, for targets that are drawn, and that are not, and one that two rows share."""
    hidden, vectors, targets = factors(7, 12)
    targets[3] = targets[0]
    leaves = (hidden.requires_grad_(), vectors.requires_grad_())
    drawn = (11, int(targets[0]), 3, 7)
    mine, literal = (loss(hidden, vectors, targets, *drawn) for loss in (drawn_loss, literal_drawn_loss))
    torch.testing.assert_close(mine, literal)
    for mine_, literal_ in zip(gradients(3 * mine, leaves), gradients(3 * literal, leaves), strict=True):
        torch.testing.assert_close(mine_, literal_)


@pytest.mark.parametrize(("B", "V"), [(1, 2), (9, 30), (50, 400)])
def test_drawn_cross_entropy_of_all_items_is_the_full_one(B, V):
    """In value and gradients, whatever the order in which the items were drawn."""
    hidden, vectors, targets = factors(B, V)
    leaves = (hidden.requires_grad_(), vectors.requires_grad_())
    mine = drawn_loss(hidden, vectors, targets, *range(V)[::-1])
    full = F.cross_entropy(hidden @ vectors.T, targets)
    torch.testing.assert_close(mine, full)
    for gradient, expected in zip(*(gradients(x, leaves) for x in (mine, full)), strict=True):
        torch.testing.assert_close(gradient, expected)


def test_drawn_normaliser_is_unbiased():
    """Its mean over every draw of 3 of 6 items is the sum over all, for targets that are drawn and that are not."""
    hidden, vectors, targets = factors(4, 6)
    scores = hidden @ vectors.T
    for row, target in enumerate(targets):
        one = slice(row, row + 1)
        losses = [drawn_loss(hidden[one], vectors, targets[one], *drawn) for drawn in combinations(range(6), 3)]
        normalisers = (torch.stack(losses) + scores[row, target]).exp()
        hit = torch.tensor([int(target) in drawn for drawn in combinations(range(6), 3)])
        for part in (hit, ~hit):
            torch.testing.assert_close(normalisers[part].mean(), scores[row].exp().sum())


def test_drawn_cross_entropy_moves_only_what_was_drawn_behind_the_padding():
    hidden, vectors, targets = factors(5, 40)
    table = torch.cat((torch.full((1, vectors.shape[1]), 7.0, dtype=vectors.dtype), vectors)).requires_grad_()
    loss = likelihood.drawn_cross_entropy(hidden, table, targets, 3, Draws(1, 5, 9), padding=1)
    torch.testing.assert_close(loss, drawn_loss(hidden, vectors, targets, 1, 5, 9))
    (gradient,) = torch.autograd.grad(loss, table)
    assert gradient.is_sparse
    moved = gradient.to_dense().any(1).nonzero()[:, 0].tolist()
    assert moved == sorted({place + 1 for place in (1, 5, 9, *targets.tolist())})


def test_items_are_drawn_once_each():
    hidden, vectors, targets = factors(5, 40)
    torch.testing.assert_close(
        likelihood.drawn_cross_entropy(hidden, vectors, targets, 999, np.random.default_rng(0)),
        F.cross_entropy(hidden @ vectors.T, targets),
    )


def test_a_certain_target_has_a_finite_loss_and_gradient():
    hidden = torch.tensor([[300.0]], requires_grad=True)
    loss = drawn_loss(hidden, torch.tensor([[1.0], [-1.0], [-1.0]]), torch.tensor([0]), 0, 2)
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_padding_rows_of_the_table_are_no_items_and_get_no_gradient() -> None:
    hidden, vectors, targets = (t.requires_grad_() if t.is_floating_point() else t for t in factors(9, 2500))
    table = torch.cat((torch.full((1, 6), 7.0, dtype=torch.float64), vectors.detach())).requires_grad_()
    expected = torch.autograd.grad(likelihood.cross_entropy(hidden, vectors, targets), [hidden, vectors])
    ours = torch.autograd.grad(likelihood.cross_entropy(hidden, table, targets, padding=1), [hidden, table])
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1][1:], expected[1])
    assert (ours[1][0] == 0).all()


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.0, 3.0, 5.0, 99.0])
@pytest.mark.parametrize(("B", "V"), [(23, 100), (261, 1000)])
def test_selected_cross_entropy_is_the_one_over_the_selected_items(B, V, threshold, dtype, below):
    generator = torch.Generator().manual_seed(0)
    hidden, table = (torch.randn(n, 16, generator=generator, dtype=dtype).requires_grad_() for n in (B, V + 1))
    targets, weights = torch.randint(V, (B,), generator=generator), torch.rand(B, generator=generator, dtype=dtype)
    loss = likelihood.selected_cross_entropy(hidden, table, targets, weights, threshold, below=below, padding=1)
    found = torch.autograd.grad(2 * loss, (hidden, table))

    scores = hidden @ table[1:].T
    selected = (-scores.detach().log_softmax(1) < threshold) == below
    selected.scatter_(1, targets[:, None], True)
    literal = F.cross_entropy(scores.masked_fill(~selected, -torch.inf), targets, reduction="none")
    expected = torch.autograd.grad(2 * (literal * weights).sum(), (hidden, table))

    assert 0 < int(selected.sum()) <= selected.numel()
    torch.testing.assert_close(loss, (literal * weights).sum())
    torch.testing.assert_close(found, expected, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-5)
