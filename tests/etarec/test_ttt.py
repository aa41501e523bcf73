"""The TTT layer: the dual form against the literal one, and the literal one against a calculation by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import ttt
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm, dual
from etarec.ragged import OutputPositions
from etarec.ttt import WITHOUT_INNER_LOOP, InnerOptions, TTTLayer, primal

FORMS = pytest.mark.parametrize("form", [primal, dual])
INNER = pytest.mark.parametrize("inner", ["mlp", "linear"])


def layer_of(inner: str, mini_batch: int = 4, width: int = 8, heads: int = 2) -> TTTLayer:
    """A layer in float64 with every parameter away from its initial value, and one place's step clamped at 0."""
    torch.manual_seed(0)
    layer = TTTLayer(width, heads, inner, mini_batch, inner_rate=1.5, rope_base=1000.0).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
        layer.decay_offset[mini_batch // 2] = -2.0
    return layer


def tokens(N: int, L: int, width: int = 8) -> Tensor:
    return torch.randn(N, L, width, generator=torch.Generator().manual_seed(L), dtype=torch.float64)


@INNER
@pytest.mark.parametrize(("mini_batch", "sequences"), [(1, 1), (4, 3), (8, 5)])
def test_dual_equals_primal_in_values_and_gradients_at_every_length(inner, mini_batch, sequences):
    layer = layer_of(inner, mini_batch)
    names = [name for name, _ in layer.named_parameters()]
    for length in range(1, 3 * mini_batch + 2):
        x = tokens(sequences, length).requires_grad_()
        direction = torch.randn_like(x)
        scale = torch.linspace(0.2, 2.0, sequences, dtype=torch.float64) if length % 2 else None
        since = (0, length // 2, length - 1)[length % 3]
        results = []
        for form in (primal, dual):
            layer.form = form
            out = layer(x, OutputPositions(since), InnerOptions(scale))
            results.append((out, *torch.autograd.grad((out * direction[:, since:]).sum(), [x, *layer.parameters()])))
        for name, literal, fast in zip(["output", "input", *names], *results, strict=True):
            torch.testing.assert_close(fast, literal, rtol=1e-9, atol=1e-11, msg=f"{name} at length {length}")


@INNER
@FORMS
@pytest.mark.parametrize("lengths", [[1], [4], [9, 9, 4], [13, 12, 8, 8, 5, 4, 1], [3, 2, 1]])
def test_only_the_last_outputs_of_sequences_of_their_own_lengths(inner, form, lengths):
    """Values and gradients are those of all outputs, taken at the ends, whatever tokens are behind them."""
    layer, N = layer_of(inner), len(lengths)
    layer.form = form
    x, scale = tokens(N, lengths[0] + 5).requires_grad_(), torch.linspace(0.2, 2.0, N, dtype=torch.float64)
    scaled, ends = InnerOptions(scale), torch.tensor(lengths)
    every = layer(x, inner=scaled)[torch.arange(N), ends - 1][:, None]
    last = layer(x, OutputPositions(lengths=ends), scaled)
    torch.testing.assert_close(last, every, rtol=1e-9, atol=1e-11)
    direction, wanted = torch.randn_like(every), [x, *layer.parameters()]
    results = [torch.autograd.grad((out * direction).sum(), wanted) for out in (last, every)]
    for name, ours, expected in zip(["x", *dict(layer.named_parameters())], *results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11, msg=name)


@FORMS
def test_linear_layer_by_hand(form):
    """Two mini-batches of TTT-Linear, F = 4, M = 2, worked out on paper; W starts at 0, so f(k) = b for every token.

    Every f(k_j) is (1, -1, 1, -1), its own LN (up to eps). With r = LN(f(k)) - (v - k), the gradient at f(k) is
    r - mean(r) - LN mean(r LN): (2, 0, -2, 0) for r = (4, 0, 0, 0) and (0, -2, 0, 2) for r = (0, 0, 0, 4).
    """
    unit = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64)
    k = torch.stack([eye[0], eye[1], eye[2]])
    v = k + unit - 4 * torch.stack([eye[0], eye[3], eye[1]])
    q = torch.tensor([[2, 0, 0, 0], [2, 4, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    token_rate = torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64)
    decay = torch.tensor([1.0, 0.5], dtype=torch.float64)
    fast = [FastLayer(torch.zeros(1, 4, 4, dtype=torch.float64), unit.view(1, 1, 4))]
    norm = InnerNorm(torch.ones(1, 1, 4, dtype=torch.float64), torch.zeros(1, 1, 4, dtype=torch.float64))
    out = form(q[None, None], k[None, None], v[None, None], token_rate[None, None], decay, fast, norm)[0, 0]
    # f(q_0; W_0): eta_00 = .5, so row 0 of W and b lose (1, 0, -1, 0): (-2, 0, 2, 0) + (0, -1, 2, -1).
    first = torch.tensor([-2, -1, 4, -1]) / math.sqrt(5.5)
    # f(q_1; W_1): eta_10 = .25, eta_11 = .125: (-1, 1, 1, -1) + (.5, -.75, 1.5, -1.25).
    second = torch.tensor([-0.5, 0.25, 2.5, -2.25]) / math.sqrt(2.90625)
    # The second mini-batch starts from W_1; token 2 has rate 0 and q_2 = 0, so f(q_2) is the b of W_1.
    third = torch.tensor([0.5, -0.75, 1.5, -1.25]) / math.sqrt(1.15625)
    torch.testing.assert_close(out, q + torch.stack([first, second, third]), rtol=0, atol=3e-6)


@INNER
def test_inner_gradient_is_that_of_the_inner_loss(inner):
    """Central differences of 1/2 |LN(f(k)) - (v - k)|^2 in one entry of each fast weight."""
    layer = layer_of(inner)
    fast = [FastLayer(w.detach(), b.detach()) for w, b in zip(layer.fast_weights, layer.fast_biases, strict=True)]
    norm = InnerNorm(layer.inner_norm_weight.detach(), layer.inner_norm_bias.detach())
    k, v = torch.randn(2, 1, 2, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expanded = [FastLayer(*(p.expand(1, *p.shape) for p in each)) for each in fast]
    with torch.no_grad():
        gradient = ttt._inner_gradient(k[:, :, 0], v[:, :, 0], expanded, norm)
    for each, grads in zip(fast, gradient, strict=True):
        for parameter, grad in zip(each, grads, strict=True):
            losses = []
            for step in (1e-6, -1e-6):
                parameter[1, 0, 2] += step
                losses.append(0.5 * (norm(ttt.fast_model(k, fast)) - (v - k)).square().sum())
                parameter[1, 0, 2] -= step
            assert float(grad[0, 1, 0, 2]) == pytest.approx(float(losses[0] - losses[1]) / 2e-6, rel=1e-6)


@INNER
def test_layer_feeds_the_form_what_the_paper_says(inner):
    layer, x = layer_of(inner), tokens(3, 6)
    given = {}

    def form(q, k, v, token_rate, decay, fast, norm, lengths):
        given.update(q=q, k=k, v=v, token_rate=token_rate, decay=decay)
        return q + k

    layer.form = form
    out = layer(x, inner=InnerOptions(torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)))

    def heads(z):
        return torch.stack([z[..., :4], z[..., 4:]], dim=1)

    rate = 1.5 * torch.sigmoid(x @ layer.rate.weight.T + layer.rate.bias) / 4
    rate = rate.transpose(1, 2) * torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(given["token_rate"], rate)
    places = torch.tensor([1.0, 1 / 2, 1 / 3, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(given["decay"], (places + layer.decay_offset).clamp(min=0))
    assert given["decay"][2] == 0
    torch.testing.assert_close(given["v"], heads(x @ layer.v.weight.T))
    for name in ("q", "k"):
        rotated = ttt.rotate(heads(x @ getattr(layer, name).weight.T), layer.cos, layer.sin)
        torch.testing.assert_close(given[name], rotated)
    joined = torch.cat([given["q"][:, 0] + given["k"][:, 0], given["q"][:, 1] + given["k"][:, 1]], dim=-1)
    normed = F.layer_norm(joined, (8,), layer.post_norm.weight, layer.post_norm.bias, eps=1e-6)
    torch.testing.assert_close(out, normed @ layer.o.weight.T)


@INNER
@FORMS
def test_without_inner_loop_is_with_rate_zero(inner, form):
    layer, x = layer_of(inner), tokens(3, 11)
    layer.form = form
    off = layer(x, inner=WITHOUT_INNER_LOOP)
    torch.testing.assert_close(off, layer(x, inner=InnerOptions(torch.zeros(3, dtype=torch.float64))))
    assert not torch.allclose(off, layer(x))


def test_without_inner_loop_no_inner_gradient_is_taken():
    layer, x = layer_of("mlp"), tokens(2, 5)

    def form(*_):
        raise AssertionError("the inner loop ran")

    layer.form = form
    layer(x, inner=WITHOUT_INNER_LOOP).sum().backward()
    assert layer.k.weight.grad is None and layer.v.weight.grad is None and layer.q.weight.grad is not None


def test_rate_scale_multiplies_a_sequences_own_rate():
    layer, x = layer_of("mlp"), tokens(2, 9)
    scaled = layer(x, inner=InnerOptions(torch.tensor([1.0, 0.5], dtype=torch.float64)))
    torch.testing.assert_close(scaled[:1], layer(x[:1]))
    layer.inner_rate /= 2
    torch.testing.assert_close(scaled[1:], layer(x[1:]))


@INNER
@FORMS
def test_causal(inner, form):
    layer, x = layer_of(inner), tokens(2, 11)
    layer.form = form
    with torch.no_grad():
        layer.decay_offset.zero_()  # a place clamped at 0 would not see its own mini-batch
        out = layer(x)
    for place in range(11):
        changed = x.clone()
        changed[:, place] += 1
        with torch.no_grad():
            again = layer(changed)
        torch.testing.assert_close(again[:, :place], out[:, :place], rtol=0, atol=1e-12)
        assert ((again[:, place:] - out[:, place:]).abs().amax(-1) > 1e-9).all()


@INNER
@FORMS
def test_padding_and_batch_composition_change_nothing(inner, form):
    layer, x = layer_of(inner), tokens(5, 13)
    layer.form = form
    out = layer(x)
    for length in (1, 3, 4, 5, 12):
        torch.testing.assert_close(layer(x[2:3, :length])[0], out[2, :length], rtol=0, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
def test_primal_runs_with_and_without_a_graph(grad):
    layer, x = layer_of("mlp"), tokens(2, 6)
    layer.form = primal
    with torch.set_grad_enabled(grad):
        assert layer(x).requires_grad == grad
    torch.testing.assert_close(layer(x), layer_of("mlp")(x))


def test_rotary_embedding_turns_pairs_by_the_place_modulo_m():
    M, width, base = 4, 6, 1000.0
    cos, sin = (table.double() for table in ttt.rotary_table(M, width, base))
    x = torch.randn(2, 11, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = ttt.rotate(x, cos, sin)
    for place in range(11):
        for pair in range(width // 2):
            angle = (place % M) * base ** (-2 * pair / width)
            before = torch.complex(x[:, place, pair], x[:, place, pair + width // 2])
            after = before * complex(math.cos(angle), math.sin(angle))
            torch.testing.assert_close(turned[:, place, pair], after.real, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(turned[:, place, pair + width // 2], after.imag, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("inner", "shapes"), [("mlp", [(4, 16, 64), (4, 64, 16)]), ("linear", [(4, 16, 16)])])
def test_initial_values(inner, shapes):
    torch.manual_seed(0)
    layer = TTTLayer(64, 4, inner, 8, inner_rate=1.0, rope_base=1000.0)
    assert [tuple(weight.shape) for weight in layer.fast_weights] == shapes
    layer.requires_grad_(False)
    for weight in (layer.q.weight, layer.k.weight, layer.v.weight, layer.o.weight, *layer.fast_weights):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.08)
        assert abs(float(weight.mean())) < 0.003
    assert float(layer.rate.weight.std()) == pytest.approx(0.02, rel=0.2)
    zeros = [layer.rate.bias, layer.decay_offset, layer.inner_norm_bias, layer.post_norm.bias, *layer.fast_biases]
    assert all((parameter == 0).all() for parameter in zeros)
    assert all((parameter == 1).all() for parameter in (layer.inner_norm_weight, layer.post_norm.weight))
    assert all(layer_.bias is None for layer_ in (layer.q, layer.k, layer.v, layer.o))
