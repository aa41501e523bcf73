"""The inner loop in C against the dual form, which test_ttt.py tests against the literal form."""

import gc
import weakref

import pytest
import torch

from etarec.kernels import build
from etarec.kernels.inner_loop import inner_loop
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm, dual
from etarec.ragged import OutputPositions
from etarec.ttt import InnerOptions, TTTLayer

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def layer_of(width: int = 64, heads: int = 4, mini_batch: int = 8, inner: str = "mlp") -> TTTLayer:
    """A layer with every parameter away from its initial value, and one place's step clamped at 0."""
    layer = TTTLayer(width, heads, inner, mini_batch, inner_rate=1.0, rope_base=1000.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        layer.decay_offset[mini_batch // 2] = -2.0
    return layer


def assert_as_dual(layer: TTTLayer, x: torch.Tensor, *options) -> None:
    """Values, with and without a graph, and gradients of everything, to the last digits of float32."""
    wanted, results = [x.requires_grad_(), *layer.parameters()], []
    direction = None
    for form in (dual, inner_loop):
        layer.form = form
        with torch.no_grad():
            served = layer(x, *options)
        out = layer(x, *options)
        torch.testing.assert_close(out, served, rtol=1e-5, atol=1e-5)
        direction = torch.randn_like(out) if direction is None else direction
        results.append((out, *torch.autograd.grad((out * direction).sum(), wanted)))
    names = ["output", "input", *(name for name, _ in layer.named_parameters())]
    for name, expected, ours in zip(names, *results, strict=True):
        apart = (ours - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
        assert apart < 3e-5, f"{name}: {float(apart):.1e} of its largest entry apart"


def _fast(layer):
    return [FastLayer(w, b) for w, b in zip(layer.fast_weights, layer.fast_biases, strict=True)]


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 25])
def test_every_output_of_whole_sequences_and_the_last_ones(length):
    layer, scale = layer_of(), torch.linspace(0.2, 2.0, 5)
    for since in {0, length // 2, length - 1}:
        assert_as_dual(layer, torch.randn(5, length, 64), OutputPositions(since), InnerOptions(scale))


@pytest.mark.parametrize("lengths", [[1], [8], [9, 9, 4], [25, 17, 16, 8, 8, 5, 1], [3, 2, 1]])
def test_the_last_output_of_sequences_of_their_own_lengths(lengths):
    """Tokens behind a sequence's end are not even read."""
    x = torch.randn(len(lengths), lengths[0], 64)
    ends = torch.tensor(lengths, dtype=torch.int32)
    last, layer = OutputPositions(lengths=ends), layer_of()
    assert_as_dual(layer, x, last)
    behind = torch.arange(lengths[0]) >= ends[:, None]
    assert torch.equal(layer(x.masked_fill(behind[..., None], 1e9), last), layer(x, last))


@pytest.mark.parametrize(("width", "heads", "mini_batch"), [(16, 2, 8), (64, 2, 16), (24, 1, 8)])
def test_other_sizes(width, heads, mini_batch):
    assert_as_dual(layer_of(width, heads, mini_batch), torch.randn(3, 19, width))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_threads_share_out_the_sequences(threads, count):
    threads(count)
    assert_as_dual(layer_of(), torch.randn(7, 11, 64))
    assert_as_dual(layer_of(), torch.randn(1, 11, 64))


def test_a_sequence_does_not_depend_on_those_beside_it(threads):
    q, k, v, rate, *shared = _given(layer_of(), sequences=6)
    together = inner_loop(q, k, v, rate, *shared)
    threads(3)
    assert torch.equal(inner_loop(q, k, v, rate, *shared), together)
    alone = [inner_loop(*(x[n : n + 1] for x in (q, k, v, rate)), *shared) for n in range(6)]
    assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e30])
def test_values_that_are_not_finite_stay_so(wild):
    """NaN must not turn into a number, or a diverged model would pass for a sound one."""
    layer, x = layer_of(), torch.randn(2, 11, 64)
    x[1, 3, 5] = wild
    layer.form = dual
    expected = layer(x).isfinite().all(-1)
    layer.form = inner_loop
    assert torch.equal(layer(x).isfinite().all(-1), expected)


def test_large_values_stay_close():
    """Values at which gelu's sigmoid is 0 or 1 to the last digit, and beyond the range of exp."""
    layer = layer_of()
    with torch.no_grad():
        for weight in layer.fast_weights:
            weight.mul_(40)
    layer.rate.bias.data.fill_(-12.0)
    x = 5 * torch.randn(4, 13, 64)
    layer.form = dual
    expected = layer(x)
    layer.form = inner_loop
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_backward_cannot_be_differentiated_again_and_twice_gives_the_same():
    layer, x = layer_of(), torch.randn(2, 11, 64, requires_grad=True)
    loss = layer(x).square().sum()
    first, second = (torch.autograd.grad(loss, [x], retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (gradient,) = torch.autograd.grad(loss, [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_graph_that_is_dropped_takes_its_tensors_with_it():
    """The graph does not keep the output that holds it, so no cycle is left to the garbage collector."""
    layer = layer_of()
    gc.disable()
    try:
        out = layer.form(*_given(layer))
        seen = weakref.ref(out)
        del out
        assert seen() is None
    finally:
        gc.enable()


def _given(layer, sequences=3):
    q, k, v = (torch.randn(sequences, 4, 11, 16, requires_grad=True) for _ in range(3))
    norm = InnerNorm(layer.inner_norm_weight, layer.inner_norm_bias)
    return q, k, v, torch.rand(sequences, 4, 11), layer._decay(), _fast(layer), norm
