"""Blocked scoring against plain torch on the whole matrix of scores."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from etarec import scoring
from etarec.kernels import scores as c_scores

SIZES = pytest.mark.parametrize(("B", "V"), [(1, 1), (1, 7), (9, 30), (300, 2500), (257, 1024)])


@pytest.fixture(params=["one block", "blocks of rows", "chunks of items"], autouse=True)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way through the scores, for every test; chunks are 1024 items wide, so 2,500 items are three of them."""
    if request.param != "one block":
        monkeypatch.setitem(scoring.BLOCK, "cpu", 1000)
    if request.param == "chunks of items":
        monkeypatch.setattr(scoring, "MAX_ITEMS_OF_ROWS", 5)
        monkeypatch.setattr(c_scores, "MAX_ITEMS", 5)
    return request.param


def factors(B: int, V: int, D: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B + V)
    hidden, vectors = (torch.randn(n, D, generator=generator, dtype=torch.float64).to(dtype) for n in (B, V))
    return hidden, vectors, torch.randint(V, (B,), generator=generator)


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
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_torchs_in_value_and_gradients(B, V, weighted, dtype):
    hidden, vectors, targets = factors(B, V, 6, dtype)
    hidden, vectors = hidden.requires_grad_(), vectors.requires_grad_()
    weights = torch.linspace(0, 3, B, dtype=dtype) if weighted else None
    losses = F.cross_entropy(hidden @ vectors.T, targets, reduction="none")
    expected = (losses if weights is None else losses * weights).mean()
    loss = scoring.cross_entropy(hidden, vectors, targets, weights)
    torch.testing.assert_close(loss, expected)
    for mine, torchs in zip(*(torch.autograd.grad(7 * x, (hidden, vectors)) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(mine, torchs)


@pytest.mark.parametrize("moving", [(True, False), (False, True), (False, False)])
def test_cross_entropy_computes_only_the_needed_gradients(moving):
    hidden, vectors, targets = factors(300, 1500)
    expected = F.cross_entropy(hidden @ vectors.T, targets)
    leaves = [x.requires_grad_(moves) for x, moves in zip((hidden, vectors), moving, strict=True)]
    loss = scoring.cross_entropy(hidden, vectors, targets)
    torch.testing.assert_close(loss, expected)
    assert loss.requires_grad == any(moving)
    if any(moving):
        loss.backward()
    assert [leaf.grad is not None for leaf in leaves] == list(moving)


def test_cross_entropy_passes_gradcheck():
    hidden, vectors, targets = factors(5, 12)
    weights = torch.tensor([0.0, 1.0, 0.5, 2.0, 3.0], dtype=torch.float64)
    inputs = (hidden.requires_grad_(), vectors.requires_grad_())
    assert torch.autograd.gradcheck(lambda h, v: scoring.cross_entropy(h, v, targets, weights), inputs)


def test_huge_scores_stay_finite():
    hidden, vectors, targets = factors(20, 1500, 6, torch.float32)
    hidden = (1e4 * hidden).requires_grad_()
    loss = scoring.cross_entropy(hidden, vectors, targets)
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
        scoring.cross_entropy(hidden, vectors, targets).backward()
        scoring.mean_softmax(hidden.detach(), vectors)
        scoring.spread(hidden.detach(), vectors, None)
    assert largest.numbers <= max(2**19, 256 * 1024)


class Draws:
    """A generator whose draw is given."""

    def __init__(self, *items: int):
        self.items = np.array(items)

    def choice(self, n: int, size: int, replace: bool) -> np.ndarray:
        assert len(self.items) == size <= n and not replace
        return self.items


def drawn_loss(hidden: Tensor, vectors: Tensor, targets: Tensor, *drawn: int) -> Tensor:
    return scoring.drawn_cross_entropy(hidden, vectors, targets, len(drawn), Draws(*drawn))


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
    loss = scoring.drawn_cross_entropy(hidden, table, targets, 3, Draws(1, 5, 9), padding=1)
    torch.testing.assert_close(loss, drawn_loss(hidden, vectors, targets, 1, 5, 9))
    (gradient,) = torch.autograd.grad(loss, table)
    assert gradient.is_sparse
    moved = gradient.to_dense().any(1).nonzero()[:, 0].tolist()
    assert moved == sorted({place + 1 for place in (1, 5, 9, *targets.tolist())})


def test_items_are_drawn_once_each():
    hidden, vectors, targets = factors(5, 40)
    torch.testing.assert_close(
        scoring.drawn_cross_entropy(hidden, vectors, targets, 999, np.random.default_rng(0)),
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
    expected = torch.autograd.grad(scoring.cross_entropy(hidden, vectors, targets), [hidden, vectors])
    ours = torch.autograd.grad(scoring.cross_entropy(hidden, table, targets, padding=1), [hidden, table])
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1][1:], expected[1])
    assert (ours[1][0] == 0).all()


@SIZES
@pytest.mark.parametrize("top_k", [0, 3])
def test_a_scan_gives_the_targets_losses_too(B, V, top_k):
    hidden, vectors, targets = factors(B, V)
    scan = scoring.scan(hidden, vectors, targets, min(top_k, V), losses=True)
    torch.testing.assert_close(scan.losses, F.cross_entropy(hidden @ vectors.T, targets, reduction="none"))
    plain = scoring.scan(hidden, vectors, targets, min(top_k, V))
    assert plain.losses is None and torch.equal(scan.ranks, plain.ranks)


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.0, 3.0, 5.0, 99.0])
def test_selected_cross_entropy_is_the_one_over_the_selected_items(threshold, dtype, below):
    generator = torch.Generator().manual_seed(0)
    hidden, table = (torch.randn(n, 16, generator=generator, dtype=dtype).requires_grad_() for n in (23, 101))
    targets, weights = torch.randint(100, (23,), generator=generator), torch.rand(23, generator=generator, dtype=dtype)
    loss = scoring.selected_cross_entropy(hidden, table, targets, weights, threshold, below=below, padding=1)
    found = torch.autograd.grad(2 * loss, (hidden, table))

    scores = hidden @ table[1:].T
    selected = (-scores.detach().log_softmax(1) < threshold) == below
    selected.scatter_(1, targets[:, None], True)
    literal = F.cross_entropy(scores.masked_fill(~selected, -torch.inf), targets, reduction="none")
    expected = torch.autograd.grad(2 * (literal * weights).sum(), (hidden, table))

    assert 0 < int(selected.sum()) <= selected.numel()
    torch.testing.assert_close(loss, (literal * weights).sum())
    torch.testing.assert_close(found, expected, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-5)
