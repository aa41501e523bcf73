"""The inner loop of the TTT layer in its dual form (arXiv 2407.04620, section 2.5), with a gradient derived by hand.

Symbols: H heads, N sequences, L positions, F head width, G hidden fast width, M mini-batch, m tokens of a mini-batch
(fewer than M in a shorter last one), a of them queries: tokens whose outputs are wanted; R rows, one per sequence and
head.

The longest sequences come first. The sequences that reach a mini-batch are the first ones, and those that end in it are
the last of these. In the first mini-batch all sequences have the same fast weights, [H, ...], and a product with them
is one matrix product per head over the tokens of all sequences; afterwards each row has its own, [R, ...].

Layer n maps its input X_n to Z_n = X_n W_n + b_n, with X_0 = k and X_n = gelu(Z_{n-1}); g_n is the gradient of the
inner loss at Z_n and h_n = g_n W_n^T that at X_n. For the queries Y_0 = q, P_n = Y_n W_n + b_n - (A * S_n) g_n with
A_ij = eta_ij for j <= i and S_n = Y_n X_n^T + 1, Y_n = gelu(P_{n-1}). d_x is the gradient of the outer loss at x.

Autograd through the same lines would keep every intermediate of a second derivative, at about twice the cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from etarec.kernels.inner_loop_dual_math import (
    NORM_EPS,
    Gelu,
    affine,
    by_owner,
    gelu,
    gelu_curvature,
    gelu_slope,
    normalise,
    normalise_back,
    plus,
    plus_product,
    summed,
    times,
)


class FastLayer(NamedTuple):
    """weight: [H, F_in, F_out], bias: [H, 1, F_out]; from the second mini-batch on, [R, ...]."""

    weight: Tensor
    bias: Tensor


class InnerNorm(NamedTuple):
    """The layer norm of the inner loss; weight and bias broadcast against its argument."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * self.weight + self.bias


def dual(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
    lengths: Tensor | None = None,
) -> Tensor:
    """The outputs of the inner loop at the queries: as q.

    q: [N, H, up to L, F], the last positions of all sequences; with `lengths` one each, at the sequence's own end.
    k, v: [N, H, L, F]; token_rate: [N, H, L]; decay: [M]; norm: [H, 1, F]; lengths: int[N] on the CPU, descending.
    """
    parts = _mini_batches(k.shape, decay.shape[0], q.shape[2], lengths, k.device)
    layers = [tensor for layer in fast for tensor in layer]
    keep = torch.is_grad_enabled()  # inside `forward` it never is
    return _InnerLoop.apply(keep, parts, q, k, v, token_rate, decay, *norm, *layers)  # type: ignore[no-untyped-call]


class _Part(NamedTuple):
    """The part of all tensors that belongs to one mini-batch."""

    reach: int  # number of sequences with tokens here, the first ones
    tokens: slice  # of positions
    ending: slice  # sequences with queries here
    queries: slice  # of the positions of q
    places: Tensor | None  # int[1 or R, a], of the queries in the mini-batch; None without queries
    going_on: int  # number of sequences with tokens behind this mini-batch


def _mini_batches(shape: torch.Size, M: int, queries: int, lengths: Tensor | None, device: torch.device) -> list[_Part]:
    N, H, L = shape[:3]
    if lengths is not None:
        return _ending_by_length(lengths, M, H, device)
    parts = []
    for start in range(0, L, M):
        stop, first = min(start + M, L), max(L - queries, start)
        places = torch.arange(first - start, stop - start, device=device)[None] if first < stop else None
        part_of_q = slice(first - (L - queries), stop - (L - queries))
        parts.append(_Part(N, slice(start, stop), slice(0, N), part_of_q, places, N if stop < L else 0))
    return parts


def _ending_by_length(lengths: Tensor, M: int, H: int, device: torch.device) -> list[_Part]:
    ends = (lengths - 1).repeat_interleave(H)[:, None].to(device)
    longest, parts = int(lengths[0]), []
    for start in range(0, longest, M):
        reach, going_on = (int((lengths > bound).sum()) for bound in (start, start + M))
        places = ends[going_on * H : reach * H] - start if going_on < reach else None
        tokens = slice(start, min(start + M, longest))
        parts.append(_Part(reach, tokens, slice(going_on, reach), slice(0, 1), places, going_on))
    return parts


class _InnerLoop(torch.autograd.Function):
    """One mini-batch after another, and back. rest: rate, decay, the two norm tensors, then two of each fast layer."""

    @staticmethod
    def forward(ctx: Any, keep: bool, parts: list[_Part], q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
        (rate, decay), (N, H) = rest[:2], q.shape[:2]
        norm = InnerNorm(*(p.repeat(N, 1, 1) for p in rest[2:4]))
        fast = [FastLayer(*pair) for pair in zip(rest[4::2], rest[5::2], strict=True)]
        learned, out = [], torch.empty_like(q, memory_format=torch.contiguous_format)
        for part in parts:
            keys, values, rates = (x[: part.reach, :, part.tokens].flatten(0, 1) for x in (k, v, rate))
            batch = _learn(keys, values, rates, decay, fast, _first(norm, keys))
            if part.places is not None:
                queries = q[part.ending, :, part.queries].flatten(0, 1)
                answers = _answer(batch, queries, part.places, norm)
                out[part.ending, :, part.queries] = answers.unflatten(0, (-1, H))
            if part.going_on:
                fast = _step(batch, part.going_on * H)
            if keep:
                learned.append(batch)
            del batch  # without gradients only one mini-batch is alive at a time
        ctx.parts, ctx.learned, ctx.norm, ctx.shape = parts, learned, norm, k.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,), (N, H, L, F_) = above, ctx.shape
        total = _Totals.zeros(ctx.learned[0].decay, H, d_out)
        d_q = torch.empty_like(d_out, memory_format=torch.contiguous_format)
        d_k, d_v = d_out.new_zeros(N, H, L, F_), d_out.new_zeros(N, H, L, F_)
        d_rate = d_out.new_zeros(N, H, L)
        d_fast: list[FastLayer] = []
        for part, batch in zip(reversed(ctx.parts), reversed(ctx.learned), strict=True):
            back = _Gradients(batch)
            if part.going_on:
                _step_back(batch, d_fast, back, total)
            if batch.answers:
                d_answers = d_out[part.ending, :, part.queries].flatten(0, 1)
                d_query = _answer_back(batch, batch.answers, d_answers, ctx.norm, back, total)
                d_q[part.ending, :, part.queries] = d_query.unflatten(0, (-1, H))
            gradients = (*_learn_back(batch, _first(ctx.norm, batch.x[0]), back, total), back.rate)
            for whole, gradient in zip((d_k, d_v, d_rate), gradients, strict=True):
                whole[: part.reach, :, part.tokens] = gradient.unflatten(0, (-1, H))
            d_fast = back.fast
        d_layers = (tensor for layer in d_fast for tensor in layer)
        return None, None, d_q, d_k, d_v, d_rate, total.decay, total.norm_weight, total.norm_bias, *d_layers


def _first(norm: InnerNorm, rows: Tensor) -> InnerNorm:
    return InnerNorm(*(p[: rows.shape[0]] for p in norm))


@dataclass
class _Answers:
    """Intermediates of a mini-batch's answers to its queries, for the last r of its R rows; lists by fast layer."""

    places: Tensor  # int[1 or r, a]
    y: list[Tensor]  # Y_n: [r, a, F_in]
    hidden: list[Gelu]  # gelu at P_n, all layers but the last
    causal: Tensor  # A: [r, a, m]
    overlaps: list[Tensor]  # S_n: [r, a, m]
    unit: Tensor  # the last P, normalised: [r, a, F]
    inverse_std: Tensor


@dataclass
class _MiniBatch:
    """Intermediates of the inner loss's gradients, at the fast weights of the start; lists by fast layer."""

    fast: list[FastLayer]
    rate: Tensor  # [R, m]
    decay: Tensor  # [M]
    x: list[Tensor]  # X_n: [R, m, F_in]
    hidden: list[Gelu]  # gelu at Z_n, all layers but the last
    slopes: list[Tensor]  # gelu'(Z_n)
    g: list[Tensor]  # g_n: [R, m, F_out]
    h: list[Tensor]  # h_{n+1}
    unit: Tensor  # the last Z, normalised: [R, m, F]
    inverse_std: Tensor
    residual: Tensor  # LN(f(k)) - (v - k)
    answers: _Answers | None = None


def _learn(k: Tensor, v: Tensor, rate: Tensor, decay: Tensor, fast: list[FastLayer], norm: InnerNorm) -> _MiniBatch:
    """The gradients g_n of the inner loss for all tokens of the mini-batch."""
    x, hidden = [k], []
    for layer in fast[:-1]:
        hidden.append(gelu(affine(x[-1], *layer)))
        x.append(hidden[-1].value)
    unit, inverse_std = normalise(affine(x[-1], *fast[-1]))
    residual = torch.addcmul(norm.bias, unit, norm.weight).sub_(v - k)
    slopes, h = [gelu_slope(each) for each in hidden], list[Tensor]()
    g = [normalise_back(residual * norm.weight, unit, inverse_std)]
    for layer, slope in zip(fast[:0:-1], slopes[::-1], strict=True):
        h.insert(0, times(g[0], layer.weight.transpose(1, 2)))
        g.insert(0, h[0] * slope)
    return _MiniBatch(fast, rate, decay, x, hidden, slopes, g, h, unit, inverse_std, residual)


def _answer(batch: _MiniBatch, q: Tensor, places: Tensor, norm: InnerNorm) -> Tensor:
    """Outputs of queries q [r, a, F] of the last r rows, each at the fast weights of its place."""
    rows = slice(batch.rate.shape[0] - q.shape[0], batch.rate.shape[0])
    causal = _up_to(places, batch) * batch.decay[places][..., None] * batch.rate[rows, None]
    y, hidden, overlaps, p = [], [], [], q
    for n, (layer, x, g) in enumerate(zip(_own(batch.fast, rows), batch.x, batch.g, strict=True)):
        if n:
            hidden.append(gelu(p))
        y.append(hidden[-1].value if n else q)
        overlaps.append(torch.bmm(y[n], x[rows].transpose(1, 2)).add_(1))
        p = affine(y[n], *layer).baddbmm_(causal * overlaps[n], g[rows], alpha=-1)
    unit, inverse_std = normalise(p)
    batch.answers = _Answers(places, y, hidden, causal, overlaps, unit, inverse_std)
    return torch.addcmul(norm.bias[rows], unit, norm.weight[rows]).add_(q)


def _up_to(places: Tensor, batch: _MiniBatch) -> Tensor:
    """bool[1 or r, a, m]: the tokens up to a query's place."""
    return torch.arange(batch.rate.shape[1], device=places.device) <= places[..., None]


def _own(fast: list[FastLayer], rows: slice) -> list[FastLayer]:
    """The fast weights of some rows, shared or their own."""
    every = rows.start == 0 or fast[0].weight.shape[0] < rows.stop
    return fast if every else [FastLayer(*(p[rows] for p in layer)) for layer in fast]


def _step(batch: _MiniBatch, rows: int) -> list[FastLayer]:
    """The fast weights of the first `rows` rows at the start of the next mini-batch."""
    rate = (batch.decay[batch.rate.shape[1] - 1] * batch.rate[:rows])[..., None]
    stepped = []
    for layer, x, g in zip(batch.fast, batch.x, batch.g, strict=True):
        shared = layer.weight.shape[0] < batch.rate.shape[0]
        weight, bias = (p.repeat(rows // p.shape[0], 1, 1) if shared else p[:rows].clone() for p in layer)
        scaled = rate * g[:rows]
        weight.baddbmm_(x[:rows].transpose(1, 2), scaled, alpha=-1)
        stepped.append(FastLayer(weight, bias.sub_(scaled.sum(1, keepdim=True))))
    return stepped


@dataclass
class _Totals:
    """Gradients of the tensors that all mini-batches share."""

    decay: Tensor  # [M]
    norm_weight: Tensor  # [H, 1, F]
    norm_bias: Tensor

    @classmethod
    def zeros(cls, decay: Tensor, H: int, like: Tensor) -> "_Totals":
        return cls(torch.zeros_like(decay), *(like.new_zeros(H, 1, like.shape[-1]) for _ in range(2)))

    def add_norm(self, d_affine: Tensor, unit: Tensor) -> None:
        """Adds the gradients of weight and bias from that at weight * unit + bias."""
        self.norm_weight += summed(d_affine * unit, len(self.norm_weight))
        self.norm_bias += summed(d_affine, len(self.norm_bias))


class _Gradients:
    """Gradients of a mini-batch's own quantities, summed step by step; None before the first summand."""

    def __init__(self, batch: _MiniBatch):
        layers = len(batch.fast)
        self.rows, self.owners = batch.rate.shape[0], batch.fast[0].weight.shape[0]
        self.x: list[Any] = [None] * layers
        self.g: list[Any] = [None] * layers
        self.weight: list[Any] = [None] * layers
        self.bias: list[Any] = [None] * layers
        self.rate: Any = None

    @property
    def fast(self) -> list[FastLayer]:
        return [FastLayer(*pair) for pair in zip(self.weight, self.bias, strict=True)]

    def add_layer(self, n: int, rows: slice, x: Tensor, d_z: Tensor) -> None:
        """Adds the gradients of W_n and b_n from that of some rows at x W_n + b_n."""
        self.add_weight(n, rows, x, d_z)
        owning = rows if self.owners == self.rows else _ALL
        d_bias = (d_z if self.owners == self.rows else by_owner(d_z, self.owners)).sum(1, keepdim=True)
        self.bias[n] = plus(self.bias[n], owning, self.owners, d_bias)

    def add_weight(self, n: int, rows: slice, x: Tensor, d_z: Tensor) -> None:
        if self.owners < self.rows:
            rows, x, d_z = _ALL, by_owner(x, self.owners), by_owner(d_z, self.owners)
        self.weight[n] = plus_product(self.weight[n], rows, self.owners, x.transpose(1, 2), d_z)


_ALL = slice(None)


def _step_back(batch: _MiniBatch, d_next: list[FastLayer], back: _Gradients, total: _Totals) -> None:
    last, rows = batch.rate.shape[1] - 1, slice(0, d_next[0].weight.shape[0])
    rate = batch.rate[rows]
    scale = (batch.decay[last] * -rate)[..., None]
    d_rate = torch.zeros_like(rate)
    for n, (every_x, every_g, (d_weight, d_bias)) in enumerate(zip(batch.x, batch.g, d_next, strict=True)):
        x, g = every_x[rows], every_g[rows]
        d_scaled = torch.baddbmm(d_bias, x, d_weight)
        back.x[n] = plus(None, rows, back.rows, torch.bmm(g * scale, d_weight.transpose(1, 2)))
        d_rate -= (d_scaled * g).sum(-1)
        back.g[n] = plus(None, rows, back.rows, d_scaled.mul_(scale))
        if back.owners < back.rows:
            d_weight, d_bias = (d.unflatten(0, (-1, back.owners)).sum(0) for d in (d_weight, d_bias))
        owning = rows if back.owners == back.rows else _ALL
        back.weight[n] = plus(None, owning, back.owners, d_weight)
        back.bias[n] = plus(None, owning, back.owners, d_bias)
    back.rate = plus(None, rows, back.rows, d_rate * batch.decay[last])
    total.decay[last] += (d_rate * rate).sum()


def _answer_back(
    batch: _MiniBatch, answers: _Answers, d_out: Tensor, norm: InnerNorm, back: _Gradients, total: _Totals
) -> Tensor:
    """d_q: [r, a, F]."""
    rows = slice(back.rows - d_out.shape[0], back.rows)
    fast, rate = _own(batch.fast, rows), batch.rate[rows]
    total.add_norm(d_out, answers.unit)
    d_p = normalise_back(d_out * norm.weight[rows], answers.unit, answers.inverse_std)
    d_causal = torch.zeros_like(answers.causal)
    for n in reversed(range(len(fast))):
        y, x, g, overlap = answers.y[n], batch.x[n][rows], batch.g[n][rows], answers.overlaps[n]
        d_mixed = torch.bmm(d_p, g.transpose(1, 2)).neg_()
        mixed = (answers.causal * overlap).neg_().transpose(1, 2)
        back.g[n] = plus_product(back.g[n], rows, back.rows, mixed, d_p)
        d_causal.addcmul_(d_mixed, overlap)
        d_overlap = d_mixed.mul_(answers.causal)
        back.x[n] = plus_product(back.x[n], rows, back.rows, d_overlap.transpose(1, 2), y)
        back.add_layer(n, rows, y, d_p)
        d_y = times(d_p, fast[n].weight.transpose(1, 2)).baddbmm_(d_overlap, x)
        d_p = d_y.mul_(gelu_slope(answers.hidden[n - 1])) if n else d_y
    d_causal.mul_(_up_to(answers.places, batch))
    d_rate = (d_causal * batch.decay[answers.places][..., None]).sum(1)
    back.rate = plus(back.rate, rows, back.rows, d_rate)
    d_decay = (d_causal * rate[:, None]).sum(-1)
    if answers.places.shape[0] == 1:
        d_decay = d_decay.sum(0)
    total.decay.index_add_(0, answers.places.flatten(), d_decay.flatten())
    return d_out + d_p


def _learn_back(batch: _MiniBatch, norm: InnerNorm, back: _Gradients, total: _Totals) -> tuple[Tensor, Tensor]:
    """d_k, d_v: [R, m, F]."""
    d_z = []
    for n, (at, slope, h) in enumerate(zip(batch.hidden, batch.slopes, batch.h, strict=True), start=1):
        d_h = back.g[n - 1] * slope
        d_z.append(gelu_curvature(at).mul_(h).mul_(back.g[n - 1]))
        back.add_weight(n, _ALL, d_h, batch.g[n])
        back.g[n] = plus(back.g[n], _ALL, back.rows, times(d_h, batch.fast[n].weight))
    d_last, d_target = _loss_gradient_back(batch, back.g[-1], norm, total)
    d_z.append(d_last)
    for n in reversed(range(len(batch.fast))):
        back.add_layer(n, _ALL, batch.x[n], d_z[n])
        back.x[n] = plus(back.x[n], _ALL, back.rows, times(d_z[n], batch.fast[n].weight.transpose(1, 2)))
        if n:
            d_z[n - 1].addcmul_(back.x[n], batch.slopes[n - 1])
    return back.x[0] - d_target, d_target


def _loss_gradient_back(batch: _MiniBatch, d_g: Tensor, norm: InnerNorm, total: _Totals) -> tuple[Tensor, Tensor]:
    """Gradients at the last Z and at the target v - k, from that at the last g.

    With u = unit, s = inverse_std, r = w u + b - target and e = w r: g = s (e - mean(e) - u mean(e u)).
    """
    u, w = batch.unit, norm.weight
    e, pull = batch.residual * w, d_g * batch.inverse_std
    pull_along, e_along = (pull * u).mean(-1, keepdim=True), (e * u).mean(-1, keepdim=True)
    d_e = (pull - pull.mean(-1, keepdim=True)).addcmul_(u, pull_along, value=-1)
    d_r = d_e * w
    d_u = (d_r * w).addcmul_(pull, e_along, value=-1).addcmul_(e, pull_along, value=-1)
    total.add_norm(d_r, u)
    total.norm_weight += summed(d_e * batch.residual, len(total.norm_weight))
    along_std = (d_g * batch.g[-1]).mean(-1, keepdim=True) * batch.inverse_std
    return normalise_back(d_u, u, batch.inverse_std).addcmul_(u, along_std, value=-1), -d_r
