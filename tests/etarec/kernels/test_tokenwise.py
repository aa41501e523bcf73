"""The token-wise part of a block, in C, against torch in double precision."""

import copy

import pytest
import torch
from torch import Tensor

from etarec.config import ModelConfig
from etarec.kernels import build as c_build
from etarec.kernels import tokenwise
from etarec.models import build
from etarec.models.ttt4rec import Block
from etarec.ragged import EVERY_POSITION, OutputPositions, Ragged
from etarec.ttt import INNER_LOOP, WITHOUT_INNER_LOOP, InnerOptions

if c_build.compiler() is None:
    pytest.skip("needs a C compiler", allow_module_level=True)


def block_of(**options) -> Block:
    """A block with every parameter away from its initial value."""
    made = Block(ModelConfig(**options))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def assert_as_torch(
    ours: Block,
    x: Tensor,
    outputs: OutputPositions = EVERY_POSITION,
    inner: InnerOptions = INNER_LOOP,
    close: float = 3e-5,
) -> None:
    """Output, with and without a graph, and the gradients of everything, to the last digits of float32."""
    exact, results, direction = copy.deepcopy(ours).double(), [], None
    assert ours.takes_ragged(x) and not ours.takes_ragged(x.double())
    for each in (exact, ours):
        given = x.to(each.mlp.up.weight.dtype).requires_grad_()
        scale = None if inner.rate_scale is None else inner.rate_scale.to(given)
        own = InnerOptions(scale, inner.enabled)
        out = each(given, outputs, own)
        with torch.no_grad():
            assert torch.equal(each(given, outputs, own), out)
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
        assert_as_torch(ours, x, OutputPositions(since))


@pytest.mark.parametrize("lengths", [[1], [9, 9, 4], [25, 17, 16, 8, 8, 5, 1], [3] * 40])
def test_the_last_position_of_sequences_of_their_own_lengths(lengths):
    """Tokens behind a sequence's end are not even read, and have no gradient."""
    ours, ends = block_of(), torch.tensor(lengths)
    last = OutputPositions(lengths=ends)
    x = torch.randn(len(lengths), lengths[0], 64)
    assert_as_torch(ours, x, last)
    behind = (torch.arange(lengths[0]) >= ends[:, None])[..., None]
    wild = x.masked_fill(behind, float("nan")).requires_grad_()
    out = ours(wild, last)
    assert torch.equal(out, ours(x, last))
    (gradient,) = torch.autograd.grad(out.sum(), [wild])
    assert not gradient.masked_select(behind).any() and gradient.isfinite().all()


def test_uninitialised_memory_is_not_read(monkeypatch):
    """Rows behind a sequence's end are not written, so they may hold anything."""
    new = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size: new(self, *size).fill_(float("nan")))
    last = OutputPositions(lengths=torch.tensor([9, 5, 2]))
    for inner in (INNER_LOOP, WITHOUT_INNER_LOOP):
        assert_as_torch(block_of(), torch.randn(3, 9, 64), last, inner)


def test_scaled_rates_and_no_inner_loop():
    ours, x = block_of(), torch.randn(5, 11, 64)
    assert_as_torch(ours, x, inner=InnerOptions(torch.linspace(0.2, 2.0, 5)))
    assert_as_torch(ours, x, inner=WITHOUT_INNER_LOOP)
    assert_as_torch(ours, x[:, :3], OutputPositions(lengths=torch.tensor([3, 3, 2, 1, 1])), WITHOUT_INNER_LOOP)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 16, "heads": 1, "mlp_width": 16},
        {"width": 96, "heads": 12, "mlp_width": 48, "mini_batch": 16},  # more rates than a vector has lanes
        {"width": 128, "heads": 16, "mlp_width": 32},
        {"width": tokenwise.MAX_WIDTH, "heads": 4, "mlp_width": tokenwise.MAX_MLP_WIDTH},
    ],
)
def test_other_sizes(options):
    ours = block_of(**options)
    assert_as_torch(ours, torch.randn(7, 19, ours.sizes.D), close=2e-4)  # narrow heads are that inexact in float32


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e30])
def test_values_that_are_not_finite_stay_so(wild):
    """NaN must not turn into a number, or a diverged model would pass for a sound one."""
    ours, x = block_of(), torch.randn(2, 11, 64)
    x[1, 3, 5] = wild
    found = ours(x).isfinite().all(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenwise, "takes", lambda *given: False)
        expected = ours(x).isfinite().all(-1)
    assert torch.equal(found, expected)


def test_large_values_stay_close():
    """Values at which a sigmoid is 0 or 1 to the last digit, and beyond the range of exp."""
    ours = block_of()
    with torch.no_grad():
        ours.mlp.gate.weight.mul_(100)
        ours.ttt.rate.weight.mul_(100)
    assert_as_torch(ours, 5 * torch.randn(4, 13, 64), inner=WITHOUT_INNER_LOOP)
    x = torch.randn(4, 13, 64)
    sequences, rotary = Ragged.padded(4, 13, EVERY_POSITION), (ours.ttt.cos, ours.ttt.sin)
    rates = tokenwise.before(sequences, x.flatten(0, 1), _projections(ours), rotary, ours.sizes, True)[4]
    expected = torch.sigmoid(ours.ttt.rate(ours.ttt_norm(x))).flatten(0, 1)
    torch.testing.assert_close(rates, expected, rtol=1e-4, atol=1e-6)


def _projections(ours: Block) -> tokenwise.Projections:
    ttt = ours.ttt
    weights = (module.weight for module in (ours.ttt_norm, ttt.q, ttt.k, ttt.v, ttt.rate))
    return tokenwise.Projections(*weights, ttt.rate.bias)


def test_twice_back_gives_the_same_and_cannot_be_differentiated_again():
    ours, x = block_of(), torch.randn(2, 11, 64, requires_grad=True)
    loss = ours(x).square().sum()
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


def test_the_feed_forward_layer_alone_is_that_of_torch() -> None:
    """Its weights and its input have their gradients; the weights of the inner loop's output have none."""
    ours, x, results = block_of(), torch.randn(37, 64), []
    for each in (copy.deepcopy(ours).double(), ours):
        given = x.to(each.mlp.up.weight.dtype).requires_grad_()
        assert tokenwise.takes(given, each.sizes) == (each is ours)
        out = each.feed_forward(given)
        out.square().sum().backward()
        assert each.ttt.o.weight.grad is None and each.ttt.post_norm.weight.grad is None
        layers = (each.mlp_norm, each.mlp.gate, each.mlp.up, each.mlp.down)
        results.append([out.detach(), given.grad, *(layer.weight.grad for layer in layers)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
