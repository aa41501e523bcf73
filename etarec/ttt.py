"""The test-time-training layer (Sun et al. 2024, arXiv 2407.04620), and its inner loop in the literal form.

Symbols: N sequences, L positions, T tokens and Q queries without padding, D width, H heads, F head width, M mini-batch.
k, v: [N, H, L, F]; q: the same, or its last positions only, or, with `lengths`, each sequence's own last one.
token_rate: [N, H, L], base_lr * sigmoid(theta_h . x_j + c_h) / F of token j.
decay: [M], max(0, 1/(i+1) + offset_i) of place i in its mini-batch; so eta_ij = decay_i * token_rate_j.

A fast-weight model is a list of layers (W, b), W: [..., F_in, F_out] and b: [..., 1, F_out], with gelu between them.
One layer is TTT-Linear, two are TTT-MLP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.kernels import inner_loop_c
from etarec.kernels.inner_loop import inner_loop
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm
from etarec.kernels.inner_loop_dual_math import NORM_EPS
from etarec.ragged import EVERY_POSITION, OutputPositions, Ragged


@dataclass(frozen=True, eq=False)
class InnerOptions:
    """Switches of the inner loop.

    rate_scale: [N], multiplies the inner learning rate of each sequence; of sequences without padding [T], the value of
    its sequence for each token. Not enabled, the loop takes no step: every output comes from the initial fast weights.
    """

    rate_scale: Tensor | None = None
    enabled: bool = True

    def of(self, rows: Tensor | slice) -> "InnerOptions":
        """The options of these rows of `rate_scale`."""
        return self if self.rate_scale is None else replace(self, rate_scale=self.rate_scale[rows])


INNER_LOOP, WITHOUT_INNER_LOOP = InnerOptions(), InnerOptions(enabled=False)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def fast_model(x: Tensor, fast: Sequence[FastLayer]) -> Tensor:
    """f(x): [..., F] -> [..., F]."""
    for layer in fast[:-1]:
        x = gelu(x @ layer.weight + layer.bias)
    return x @ fast[-1].weight + fast[-1].bias


def without_inner_loop(q: Tensor, fast: Sequence[FastLayer], norm: InnerNorm) -> Tensor:
    """The outputs at fixed fast weights: [N, H, L, F]."""
    return q + norm(fast_model(q, fast))


def primal(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
    lengths: Tensor | None = None,
) -> Tensor:
    """The inner loop as the paper writes it, token by token, with inner gradients by autograd. As q.

    The reference for the tests of `dual`, which is the reference for those of the other forms. Materialises every W_i.
    """
    N, H, L, _ = k.shape
    M, since = decay.shape[0], L - q.shape[2]
    fast = [FastLayer(*(p.expand(N, H, *p.shape[-2:]) for p in layer)) for layer in fast]
    outputs = []
    for start in range(0, L, M):
        tokens = range(start, min(start + M, L))
        grads = [_inner_gradient(k[:, :, j], v[:, :, j], fast, norm) for j in tokens]
        for place, i in enumerate(tokens):
            rates = (decay[place] * token_rate[:, :, j] for j in tokens[: place + 1])
            stepped = _stepped(fast, grads, rates)
            if lengths is not None:
                ended = lengths == i + 1
                own = [FastLayer(w[ended], b[ended]) for w, b in stepped]
                outputs.append(without_inner_loop(q[ended], own, norm))
            elif i >= since:
                outputs.append(without_inner_loop(q[:, :, i - since : i - since + 1], stepped, norm))
        fast = stepped
    return torch.cat(outputs, dim=2) if lengths is None else torch.cat(outputs[::-1])


def _stepped(fast: list[FastLayer], grads: list[list[FastLayer]], rates: Iterable[Tensor]) -> list[FastLayer]:
    """The fast weights after a step along the gradients of as many tokens as there are rates, each [N, H]."""
    for rate, grad in zip(rates, grads, strict=False):
        eta = rate[..., None, None]
        fast = [FastLayer(w - eta * g.weight, b - eta * g.bias) for (w, b), g in zip(fast, grad, strict=True)]
    return fast


def _inner_gradient(k: Tensor, v: Tensor, fast: Sequence[FastLayer], norm: InnerNorm) -> list[FastLayer]:
    """Gradient of 1/2 || LN(f(k_j)) - (v_j - k_j) ||^2 with respect to every sequence's and head's fast weights."""
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat = [p if keep_graph and p.requires_grad else p.detach().requires_grad_() for layer in fast for p in layer]
        layers = [FastLayer(w, b) for w, b in zip(flat[::2], flat[1::2], strict=True)]
        residual = norm(fast_model(k[:, :, None], layers)) - (v - k)[:, :, None]
        grads = torch.autograd.grad(0.5 * residual.square().sum(), flat, create_graph=keep_graph)
    return [FastLayer(w, b) for w, b in zip(grads[::2], grads[1::2], strict=True)]


def rotary_table(M: int, width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding at the positions of one mini-batch, each [M, width]."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(M, dtype=torch.float64)[:, None] * frequency.repeat(2)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    """Rotary embedding of x: [..., L, F], at positions 0 to L - 1 or those given, which broadcast; modulo M."""
    place = (torch.arange(x.shape[-2], device=x.device) if positions is None else positions) % cos.shape[0]
    first, second = x.chunk(2, dim=-1)
    return x * cos[place] + torch.cat((-second, first), dim=-1) * sin[place]


class TTTLayer(nn.Module):
    """The causal layer of TTT4Rec (arXiv 2409.19142) without gate and convolution: [N, L, D] -> [N, outputs, D]."""

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
        self.form = inner_loop
        self.reset_parameters()

    def reset_parameters(self) -> None:
        projections = (self.q, self.k, self.v, self.o, self.rate)
        for weight in (*(layer.weight for layer in projections), *self.fast_weights):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.rate.bias)

    def forward(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP) -> Tensor:
        q = rotate(self.split(self.q(outputs.of(x))), self.cos, self.sin, self._places(x, outputs))
        if not inner.enabled:
            return self.o(self.post_norm(_joined(without_inner_loop(q, *self._fast_model()))))
        k, v, rate = self._learned_from(x)
        return self.o(self.post_norm(self.answer(q, k, v, rate, inner.rate_scale, outputs.lengths)))

    def answer(
        self, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, rate_scale: Tensor | None, lengths: Tensor | None
    ) -> Tensor:
        """The outputs of the inner loop at the queries: [N, queries, D].

        q, k, v: after the rotary embedding; rate: [N, L, H], the sigmoids.
        """
        token_rate = rate.transpose(1, 2) * (self.inner_rate / k.shape[-1])
        if rate_scale is not None:
            token_rate = token_rate * rate_scale[:, None, None]
        return _joined(self.form(q, k, v, token_rate, self._decay(), *self._fast_model(), lengths))

    def takes_ragged(self, x: Tensor) -> bool:
        """Whether `answer_ragged` computes on tensors like x."""
        return self.form is inner_loop and inner_loop_c.takes(x, self.decay_offset, self._fast_model()[0])

    def answer_ragged(
        self, sequences: Ragged, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, rate_scale: Tensor | None
    ) -> Tensor:
        """`answer` without padding. q: [Q, D], as the result; k, v: [T, D]; rate: [T, H]; rate_scale: [T]."""
        token_rate = rate * (self.inner_rate * self.heads / k.shape[-1])
        if rate_scale is not None:
            token_rate = token_rate * rate_scale[:, None]
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (q, k, v))
        fast, norm = self._fast_model()
        return inner_loop_c.ragged_inner_loop(sequences, q, k, v, token_rate, self._decay(), fast, norm).flatten(1)

    def answer_without_inner_loop(self, q: Tensor) -> Tensor:
        """`answer_ragged` without inner steps."""
        return _joined(without_inner_loop(self.split(q[None]), *self._fast_model()))[0]

    def split(self, x: Tensor) -> Tensor:
        """[N, L, D] -> [N, H, L, F]."""
        N, L, D = x.shape
        return x.view(N, L, self.heads, D // self.heads).transpose(1, 2)

    def _learned_from(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values, [N, H, L, F], and sigmoids of the rates, [N, L, H]; one product is faster than three."""
        weights = torch.cat((self.k.weight, self.v.weight, self.rate.weight))
        k, v, rate = F.linear(x, weights).split([x.shape[-1], x.shape[-1], self.heads], dim=-1)
        return rotate(self.split(k), self.cos, self.sin), self.split(v), torch.sigmoid(rate + self.rate.bias)

    def _places(self, x: Tensor, outputs: OutputPositions) -> Tensor:
        """The wanted positions, in a shape that broadcasts against the queries."""
        lengths = outputs.lengths
        places = torch.arange(outputs.since, x.shape[1]) if lengths is None else (lengths - 1)[:, None, None]
        return places.to(x.device)

    def _fast_model(self) -> tuple[list[FastLayer], InnerNorm]:
        layers = zip(self.fast_weights, self.fast_biases, strict=True)
        return [FastLayer(w, b) for w, b in layers], InnerNorm(self.inner_norm_weight, self.inner_norm_bias)

    def _decay(self) -> Tensor:
        places = torch.arange(1, self.decay_offset.shape[0] + 1, device=self.decay_offset.device)
        return torch.clamp(1 / places + self.decay_offset, min=0)


def _joined(x: Tensor) -> Tensor:
    """[N, H, L, F] -> [N, L, D]."""
    return x.transpose(1, 2).flatten(2)
