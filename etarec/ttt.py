"""The test-time-training layer (Sun et al. 2024, arXiv 2407.04620), in a literal and a fast form.

Symbols: N sequences, L positions, D width, H heads, F head width, G hidden fast width (4F), M mini-batch.
k, v: [N, H, L, F]; q the same, or its last positions only, where only their outputs are wanted;
token_rate: [N, H, L], base_lr * sigmoid(theta_h . x_j + c_h) / F of token j;
decay: [M], max(0, 1/(i+1) + offset_i) of place i in its mini-batch; so eta_ij = decay_i * token_rate_j.

A fast-weight model is a tuple of layers (W, b) with W: [..., F_in, F_out] and b: [..., 1, F_out], and gelu between
layers: one layer is TTT-Linear, two are TTT-MLP.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6


class FastLayer(NamedTuple):
    weight: Tensor
    bias: Tensor


FastWeights = Sequence[FastLayer]


class InnerNorm(NamedTuple):
    """The layer norm of the inner loss; weight and bias broadcast against [N, H, L, F]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * self.weight + self.bias


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class _GeluBackward(torch.autograd.Function):
    """grad * gelu'(x), differentiable; torch's own second derivative makes twice as many passes over the memory."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return _gelu_backward(grad, x)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor]:
        grad, x = ctx.saved_tensors
        return _gelu_backward(above[0], x), gelu_curvature(x).mul_(grad).mul_(above[0])


def gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """grad * gelu'(x), whose own gradient is known too."""
    product: Tensor = _GeluBackward.apply(grad, x)  # type: ignore[no-untyped-call]
    return product


def _gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    product: Tensor = torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
    return product


def gelu_curvature(x: Tensor) -> Tensor:
    """Second derivative of the tanh approximation of gelu.

    With u = c (x + a x^3) and t = tanh(u): gelu'' = (1 - t^2) (c (1 + 6 a x^2) - x t u'^2), u' = c (1 + 3 a x^2).
    """
    c, a = 0.7978845608028654, 0.044715  # c: sqrt(2 / pi)
    square = x * x
    t = (square * (a * c)).add_(c).mul_(x).tanh_()
    bent = (square * (3 * a * c)).add_(c).square_().mul_(x).mul_(t)
    return square.mul_(6 * a * c).add_(c).sub_(bent).mul_(t.square_().neg_().add_(1))


def fast_model(x: Tensor, fast: FastWeights) -> Tensor:
    """f(x): [..., F] -> [..., F]."""
    for layer in fast[:-1]:
        x = gelu(x @ layer.weight + layer.bias)
    return x @ fast[-1].weight + fast[-1].bias


def frozen(q: Tensor, fast: FastWeights, norm: InnerNorm) -> Tensor:
    """The layer without its inner loop: every position sees the learned initial fast weights. [N, H, L, F]."""
    return q + norm(fast_model(q, fast))


def primal(
    q: Tensor, k: Tensor, v: Tensor, token_rate: Tensor, decay: Tensor, fast: FastWeights, norm: InnerNorm
) -> Tensor:
    """The inner loop as the paper writes it, one token after another, its gradients taken by autograd. As q.

    The reference that `dual` is tested against; materialises every W_i.
    """
    N, H, L, _ = k.shape
    M, since = decay.shape[0], L - q.shape[2]
    fast = [FastLayer(*(p.expand(N, H, *p.shape[-2:]) for p in layer)) for layer in fast]
    outputs = []
    for start in range(0, L, M):
        tokens = range(start, min(start + M, L))
        grads = [_inner_gradient(k[:, :, j], v[:, :, j], fast, norm) for j in tokens]
        for place, i in enumerate(tokens):
            stepped = fast
            for grad, j in zip(grads[: place + 1], tokens, strict=False):
                eta = (decay[place] * token_rate[:, :, j])[..., None, None]
                stepped = [
                    FastLayer(s.weight - eta * g.weight, s.bias - eta * g.bias)
                    for s, g in zip(stepped, grad, strict=True)
                ]
            if i >= since:
                outputs.append(frozen(q[:, :, i - since : i - since + 1], stepped, norm))
        fast = stepped
    return torch.cat(outputs, dim=2)


def _inner_gradient(k: Tensor, v: Tensor, fast: FastWeights, norm: InnerNorm) -> list[FastLayer]:
    """Gradient of 1/2 || LN(f(k_j)) - (v_j - k_j) ||^2 with respect to every sequence's and head's fast weights."""
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat = [p if keep_graph and p.requires_grad else p.detach().requires_grad_() for layer in fast for p in layer]
        layers = [FastLayer(w, b) for w, b in zip(flat[::2], flat[1::2], strict=True)]
        residual = norm(fast_model(k[:, :, None], layers)) - (v - k)[:, :, None]
        grads = torch.autograd.grad(0.5 * residual.square().sum(), flat, create_graph=keep_graph)
    return [FastLayer(w, b) for w, b in zip(grads[::2], grads[1::2], strict=True)]


def dual(
    q: Tensor, k: Tensor, v: Tensor, token_rate: Tensor, decay: Tensor, fast: FastWeights, norm: InnerNorm
) -> Tensor:
    """The same numbers as `primal` by matrix products per mini-batch, without materialising W_i. As q.

    With X the layer's inputs at the mini-batch's start and g the gradients at its outputs, token i's output is
    x_i W_i + b_i = x_i W + b - sum_{j<=i} eta_ij (x_i . X_j + 1) g_j   (TTT paper, section 2.5).
    """
    L, M = k.shape[2], decay.shape[0]
    since = L - q.shape[2]
    outputs = []
    for start in range(0, L, M):
        chunk = slice(start, min(start + M, L))
        inputs, grads = _forward_backward(k[:, :, chunk], v[:, :, chunk], fast, norm)
        size, asked = chunk.stop - start, max(since - start, 0)
        if asked < size:
            causal = torch.tril(decay[:size, None] * token_rate[:, :, None, chunk])[:, :, asked:]
            x = asking = q[:, :, start + asked - since : chunk.stop - since]
            for n, (layer, seen, grad) in enumerate(zip(fast, inputs, grads, strict=True)):
                x = gelu(x) if n else x
                x = _affine(x, layer) - _product(causal * (_product(x, seen.transpose(-1, -2)) + 1), grad)
            outputs.append(asking + norm(x))
        if chunk.stop < L:
            last = (decay[size - 1] * token_rate[:, :, chunk])[..., None]
            fast = [_step(*each, last) for each in zip(fast, inputs, grads, strict=True)]
    return torch.cat(outputs, dim=2)


def _step(layer: FastLayer, seen: Tensor, grad: Tensor, rate: Tensor) -> FastLayer:
    scaled = rate * grad
    return FastLayer(layer.weight - _product(seen.transpose(-1, -2), scaled), layer.bias - scaled.sum(-2, keepdim=True))


def _forward_backward(k: Tensor, v: Tensor, fast: FastWeights, norm: InnerNorm) -> tuple[list[Tensor], list[Tensor]]:
    """Each layer's input and the inner loss's gradient at its output, at the mini-batch's starting weights."""
    inputs: list[Tensor] = [k]
    before: list[Tensor] = []
    for n, layer in enumerate(fast):
        if n:
            inputs.append(gelu(before[-1]))
        before.append(_affine(inputs[-1], layer))
    grads = [_norm_loss_gradient(before[-1], v - k, norm)]
    for n in range(len(fast) - 1, 0, -1):
        back = _linear(grads[0], fast[n].weight.transpose(-1, -2))
        grads.insert(0, gelu_backward(back, before[n - 1]))
    return inputs, grads


def _affine(x: Tensor, layer: FastLayer) -> Tensor:
    """x W + b for x: [N, H, M, F] and weights of each sequence [N, H, ...] or of all [H, ...]."""
    return _linear(x, layer.weight) + layer.bias


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim == 4:
        return _product(x, weight)
    # One product per head over all sequences' tokens: broadcasting would copy the weights for every sequence.
    N, H, M, F_in = x.shape
    return torch.bmm(x.transpose(0, 1).reshape(H, N * M, F_in), weight).view(H, N, M, -1).transpose(0, 1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product over [N, H]."""
    return torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).view(*a.shape[:-1], b.shape[-1])


def _norm_loss_gradient(z: Tensor, target: Tensor, norm: InnerNorm) -> Tensor:
    """Gradient of 1/2 || LN(z) - target ||^2 with respect to z."""
    centred = z - z.mean(-1, keepdim=True)
    inverse_std = torch.rsqrt(centred.square().mean(-1, keepdim=True) + NORM_EPS)
    unit = centred * inverse_std
    at_unit = (unit * norm.weight + norm.bias - target) * norm.weight
    along = (at_unit * unit).mean(-1, keepdim=True)
    return (at_unit - at_unit.mean(-1, keepdim=True) - unit * along) * inverse_std


def rotary_table(M: int, width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding at the positions of one mini-batch, each [M, width]."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(M, dtype=torch.float64)[:, None] * frequency.repeat(2)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, since: int = 0) -> Tensor:
    """Rotary embedding of x: [..., L, F], the positions from `since` on, with position modulo M."""
    place = torch.arange(since, since + x.shape[-2], device=x.device) % cos.shape[0]
    first, second = x.chunk(2, dim=-1)
    return x * cos[place] + torch.cat((-second, first), dim=-1) * sin[place]


class TTTLayer(nn.Module):
    """[N, L, D] -> [N, L - since, D], causal; the layer of TTT4Rec (arXiv 2409.19142) without gate and convolution."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, inner: str, mini_batch: int, inner_rate: float, rope_base: float):
        super().__init__()
        self.heads, self.inner_rate = heads, inner_rate
        head_width = width // heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        sizes = [head_width, 4 * head_width, head_width] if inner == "mlp" else [head_width, head_width]
        self.fast_weights = nn.ParameterList(torch.empty(heads, a, b) for a, b in pairwise(sizes))
        self.fast_biases = nn.ParameterList(torch.zeros(heads, 1, b) for b in sizes[1:])
        self.inner_norm_weight = nn.Parameter(torch.ones(heads, 1, head_width))
        self.inner_norm_bias = nn.Parameter(torch.zeros(heads, 1, head_width))
        self.rate = nn.Linear(width, heads)
        self.decay_offset = nn.Parameter(torch.zeros(mini_batch))
        self.post_norm = nn.LayerNorm(width, eps=NORM_EPS)
        cos, sin = rotary_table(mini_batch, head_width, rope_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.form = dual
        self.reset_parameters()

    def reset_parameters(self) -> None:
        projections = (self.q, self.k, self.v, self.o, self.rate)
        for weight in (*(layer.weight for layer in projections), *self.fast_weights):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.rate.bias)

    def forward(self, x: Tensor, rate_scale: Tensor | None = None, inner_loop: bool = True, since: int = 0) -> Tensor:
        """rate_scale: [N] multiplies each sequence's inner learning rate; inner_loop=False takes no inner step.

        since: the first position whose output is wanted; those before it cost no queries.
        """
        N, L, D = x.shape
        fast = [FastLayer(w, b) for w, b in zip(self.fast_weights, self.fast_biases, strict=True)]
        norm = InnerNorm(self.inner_norm_weight, self.inner_norm_bias)
        q = rotate(self._split(self.q(x[:, since:])), self.cos, self.sin, since)
        if inner_loop:
            k = rotate(self._split(self.k(x)), self.cos, self.sin)
            out = self.form(q, k, self._split(self.v(x)), self._token_rate(x, rate_scale), self._decay(), fast, norm)
        else:
            out = frozen(q, fast, norm)
        return self.o(self.post_norm(out.transpose(1, 2).reshape(N, L - since, D)))

    def _split(self, x: Tensor) -> Tensor:
        N, L, D = x.shape
        return x.view(N, L, self.heads, D // self.heads).transpose(1, 2)

    def _token_rate(self, x: Tensor, rate_scale: Tensor | None) -> Tensor:
        head_width = x.shape[-1] // self.heads
        rate = torch.sigmoid(self.rate(x)).transpose(1, 2) * (self.inner_rate / head_width)
        return rate if rate_scale is None else rate * rate_scale[:, None, None]

    def _decay(self) -> Tensor:
        places = torch.arange(1, self.decay_offset.shape[0] + 1, device=self.decay_offset.device)
        return torch.clamp(1 / places + self.decay_offset, min=0)
