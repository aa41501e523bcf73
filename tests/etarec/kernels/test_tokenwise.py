"""The compiled parts of a block against torch in double precision; test_fused.py holds the inner loop between them."""

import copy

import pytest
import torch
from torch import Tensor

from etarec.config import ModelConfig
from etarec.kernels import build as compiled
from etarec.kernels import tokenwise
from etarec.models import build
from etarec.models.ttt4rec import Block
from etarec.ragged import Ragged

if compiled.compiler() is None:
    pytest.skip("needs a C compiler", allow_module_level=True)


def block_of(**options) -> Block:
    """Every parameter is away from its initial value."""
    made = Block(ModelConfig(**options))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def assert_as_torch(ours: Block, x: Tensor, scale=None, inner_loop=True, since=0, lengths=None, close=3e-5) -> None:
    """Output, with and without a graph, and the gradients of everything, to the last digits of float32."""
    exact, results, direction = copy.deepcopy(ours).double(), [], None
    assert ours.takes_ragged(x) and not ours.takes_ragged(x.double())
    for each in (exact, ours):
        given = x.to(each.mlp.up.weight.dtype).requires_grad_()
        rates = None if scale is None else scale.to(given)
        out = each(given, rates, inner_loop, since, lengths)
        with torch.no_grad():
            assert torch.equal(each(given, rates, inner_loop, since, lengths), out)
        direction = torch.randn_like(out) if direction is None else direction
        wanted = [given, *each.parameters()]
        gradients = torch.autograd.grad((out * direction.to(out)).sum(), wanted, allow_unused=True)
        results.append(
            [out, *(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True))]
        )
    names = ["output", "input", *(name for name, _ in ours.named_parameters())]
    for name, expected, found in zip(names, *results, strict=True):
        apart = float(((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)).detach())
        assert apart < close, f"{name}: {apart:.1e} of its largest entry apart"


@pytest.mark.parametrize("length", [1, 3, 8, 17])
@pytest.mark.parametrize("sequences", [1, 5, 32, 33])
def test_all_positions_and_the_last_ones(sequences, length):
    ours, x = block_of(), torch.randn(sequences, length, 64)
    for since in {0, length // 2, length - 1}:
        assert_as_torch(ours, x, since=since)


@pytest.mark.parametrize("lengths", [[1], [9, 9, 4], [25, 17, 16, 8, 8, 5, 1], [3] * 40])
def test_the_last_position_of_sequences_of_their_own_lengths(lengths):
    """What is behind a sequence's end is not even read, and has no gradient."""
    ours, ends = block_of(), torch.tensor(lengths)
    x = torch.randn(len(lengths), lengths[0], 64)
    assert_as_torch(ours, x, lengths=ends)
    behind = (torch.arange(lengths[0]) >= ends[:, None])[..., None]
    wild = x.masked_fill(behind, float("nan")).requires_grad_()
    out = ours(wild, None, True, 0, ends)
    assert torch.equal(out, ours(x, None, True, 0, ends))
    (gradient,) = torch.autograd.grad(out.sum(), [wild])
    assert not gradient.masked_select(behind).any() and gradient.isfinite().all()


def test_what_memory_held_before_is_not_read(monkeypatch):
    """Nothing is written behind a sequence's end, which may hold anything."""
    new = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size: new(self, *size).fill_(float("nan")))
    ends = torch.tensor([9, 5, 2])
    for inner_loop in (True, False):
        assert_as_torch(block_of(), torch.randn(3, 9, 64), inner_loop=inner_loop, lengths=ends)


def test_rates_that_are_scaled_and_no_inner_loop():
    ours, x = block_of(), torch.randn(5, 11, 64)
    assert_as_torch(ours, x, scale=torch.linspace(0.2, 2.0, 5))
    assert_as_torch(ours, x, inner_loop=False)
    assert_as_torch(ours, x[:, :3], inner_loop=False, lengths=torch.tensor([3, 3, 2, 1, 1]))


@pytest.mark.parametrize(
    "options",
    [
        {"width": 16, "heads": 1, "mlp_width": 16},
        {"width": 96, "heads": 12, "mlp_width": 48, "mini_batch": 16},  # more rates than a vector has lanes
        {"width": 128, "heads": 16, "mlp_width": 32},
        {"width": tokenwise.WIDEST, "heads": 4, "mlp_width": tokenwise.WIDEST_MLP},
    ],
)
def test_other_sizes(options):
    ours = block_of(**options)
    assert_as_torch(ours, torch.randn(7, 19, ours.sizes.D), close=2e-4)  # float32 of narrow heads is so far off itself


@pytest.mark.parametrize(
    "options",
    [
        {"width": 24},
        {"mlp_width": 200},
        {"width": 144, "mlp_width": 64},
        {"mlp_width": 528},
        {"inner": "linear"},
        {"mini_batch": 4},
        {"heads": 16},
    ],
)
def test_sizes_that_are_left_to_torch(options):
    ours = block_of(**options)
    assert not ours.takes_ragged(torch.randn(3, ours.sizes.D))


def test_more_threads_than_one_are_torch_s():
    ours, x = block_of(), torch.randn(2, 3, 64)
    assert tokenwise.takes(x, ours.sizes)
    torch.set_num_threads(2)
    try:
        assert not tokenwise.takes(x, ours.sizes)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_is_not_hidden(wild):
    """A diverged model must be seen as one, so NaN may not turn into a number on its way."""
    ours, x = block_of(), torch.randn(2, 11, 64)
    x[1, 3, 5] = wild
    found = ours(x, None, True, 0, None).isfinite().all(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenwise, "takes", lambda *given: False)
        expected = ours(x, None, True, 0, None).isfinite().all(-1)
    assert torch.equal(found, expected)


def test_large_values_stay_close():
    """Where a sigmoid is 0 or 1 to the last digit, and beyond what exp can hold."""
    ours = block_of()
    with torch.no_grad():
        ours.mlp.gate.weight.mul_(100)
        ours.ttt.rate.weight.mul_(100)
    assert_as_torch(ours, 5 * torch.randn(4, 13, 64), inner_loop=False)
    x = torch.randn(4, 13, 64)
    sequences, rotary = Ragged.padded(4, 13, 13, None), (ours.ttt.cos, ours.ttt.sin)
    rates = tokenwise.before(sequences, x.flatten(0, 1), _projections(ours), rotary, ours.sizes, True)[4]
    expected = torch.sigmoid(ours.ttt.rate(ours.ttt_norm(x))).flatten(0, 1)
    torch.testing.assert_close(rates, expected, rtol=1e-4, atol=1e-6)


def _projections(ours: Block) -> tokenwise.Projections:
    ttt = ours.ttt
    weights = (module.weight for module in (ours.ttt_norm, ttt.q, ttt.k, ttt.v, ttt.rate))
    return tokenwise.Projections(*weights, ttt.rate.bias)


def test_twice_back_gives_the_same_and_cannot_be_differentiated_again():
    ours, x = block_of(), torch.randn(2, 11, 64, requires_grad=True)
    loss = ours(x, None, True, 0, None).square().sum()
    first, second = (torch.autograd.grad(loss, [x], retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (gradient,) = torch.autograd.grad(loss, [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_model_of_two_blocks(monkeypatch):
    model = build(ModelConfig(blocks=2), n_items=50)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    items = torch.randint(1, 50, (6, 13))
    ours = model(items)
    monkeypatch.setattr(tokenwise, "takes", lambda *given: False)
    torch.testing.assert_close(ours, model(items), rtol=1e-5, atol=1e-5)
    assert not torch.equal(ours, model(items))
