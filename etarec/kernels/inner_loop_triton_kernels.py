"""The kernels of inner_loop_triton.py, in Triton: one program for each sequence and head, forward and backward.

The maths and its names are those of inner_loop_dual.py, the order that of inner_loop.c; read those first. The fast
weights stay in registers from one mini-batch to the next. The backward kernel starts from the fast weights that the
forward kernel stored at the start of each mini-batch, and computes the rest of the mini-batch again. Each program
writes its own gradient of the shared weights, to be summed afterwards in a fixed order. Products are in full float32,
not TF32.

Symbols: N sequences, H heads, L positions, Q queries of a sequence, F head width, G hidden fast width, M mini-batch,
m tokens of a mini-batch, MP rows of a tile: M, rounded up to a size that a product takes.
"""

import triton
import triton.language as tl

from etarec.kernels.inner_loop_dual_math import _CUBIC, _LINEAR, NORM_EPS

EPS = tl.constexpr(NORM_EPS)
LINEAR = tl.constexpr(_LINEAR)
CUBIC = tl.constexpr(_CUBIC)


@triton.jit
def _product(a, b):
    return tl.dot(a, b, input_precision="ieee", out_dtype=tl.float32)


@triton.jit
def _gelu_sigmoid(x):
    return tl.sigmoid(x * (LINEAR + CUBIC * x * x))


@triton.jit
def _gelu_slope(x, s):
    return s + x * s * (1 - s) * (LINEAR + 3 * CUBIC * x * x)


@triton.jit
def _gelu_curvature(x, s):
    inner = LINEAR + 3 * CUBIC * x * x
    return s * (1 - s) * (2 * inner + 6 * CUBIC * x * x + x * inner * inner * (1 - 2 * s))


@triton.jit
def _mean(x, F: tl.constexpr):
    """[rows, F] -> [rows, 1]"""
    return (tl.sum(x, axis=1) * (1.0 / F))[:, None]


@triton.jit
def _normalise(x, F: tl.constexpr):
    centred = x - _mean(x, F)
    inverse_std = 1 / tl.sqrt(_mean(centred * centred, F) + EPS)
    return centred * inverse_std, inverse_std


@triton.jit
def _normalise_back(d_unit, unit, inverse_std, F: tl.constexpr):
    return (d_unit - _mean(d_unit, F) - unit * _mean(d_unit * unit, F)) * inverse_std


@triton.jit
def _learn(k, v, w1, b1, w2, b2, weight, bias, F: tl.constexpr):
    """The gradients of the inner loss for all tokens of the mini-batch; rows without a token have rate 0."""
    z = _product(k, w1) + b1[None, :]
    sigmoid = _gelu_sigmoid(z)
    x = z * sigmoid
    slope = _gelu_slope(z, sigmoid)
    unit, inverse_std = _normalise(_product(x, w2) + b2[None, :], F)
    residual = bias[None, :] + unit * weight[None, :] - (v - k)
    g2 = _normalise_back(residual * weight[None, :], unit, inverse_std, F)
    h = _product(g2, tl.trans(w2))
    return z, sigmoid, x, slope, unit, inverse_std, residual, g2, h, h * slope


@triton.jit
def _mixed(y, x, g, w, b, causal):
    """P = Y W + b - (A * S) g of one layer, S = Y X^T + 1."""
    overlap = _product(y, tl.trans(x)) + 1.0
    return overlap, _product(y, w) + b[None, :] - _product(causal * overlap, g)


@triton.jit
def _answer(q, k, x, g1, g2, w1, b1, w2, b2, causal, F: tl.constexpr):
    """Outputs of the queries, each at the fast weights of its place."""
    overlap1, p = _mixed(q, k, g1, w1, b1, causal)
    sigmoid = _gelu_sigmoid(p)
    overlap2, p2 = _mixed(p * sigmoid, x, g2, w2, b2, causal)
    unit, inverse_std = _normalise(p2, F)
    return overlap1, overlap2, p, sigmoid, unit, inverse_std


@triton.jit
def _mixed_back(d_p, y, x, g, w, causal, overlap):
    """Through `_mixed`: the gradients of g, x, causal and y, from that at P."""
    d_mixed = -_product(d_p, tl.trans(g))
    d_g = -_product(tl.trans(causal * overlap), d_p)
    d_overlap = d_mixed * causal
    d_x = _product(tl.trans(d_overlap), y)
    d_y = _product(d_p, tl.trans(w)) + _product(d_overlap, x)
    return d_g, d_x, d_mixed * overlap, d_y


# Triton compiles a kernel anew for each set of arguments divisible by 16; that of these varies with the lengths.
@triton.jit(do_not_specialize=["H", "L", "Q", "batches", "v_n", "v_l", "rate_n", "rate_h", "rate_l"])
def forward_kernel(
    q, k, v, rate, out, lengths, decay, norm_weight, norm_bias, w1, b1, w2, b2, states,
    q_n, q_h, q_l, k_n, k_h, k_l, v_n, v_h, v_l, rate_n, rate_h, rate_l, out_n, out_h, out_l,
    H, L, Q, batches, F: tl.constexpr, G: tl.constexpr, M: tl.constexpr, MP: tl.constexpr,
):  # fmt: skip
    """lengths: None for queries at the last Q positions of all sequences; states: None where no gradient is wanted."""
    program = tl.program_id(0)
    n = (program // H).to(tl.int64)
    h = (program % H).to(tl.int64)
    f = tl.arange(0, F)
    g = tl.arange(0, G)
    place = tl.arange(0, MP)
    if lengths is None:
        length = L
        since = L - Q
    else:
        length = tl.load(lengths + n)
        since = length - 1
    f_g = f[:, None] * G + g[None, :]
    g_f = g[:, None] * F + f[None, :]
    fast_w1 = tl.load(w1 + h * F * G + f_g)
    fast_b1 = tl.load(b1 + h * G + g)
    fast_w2 = tl.load(w2 + h * F * G + g_f)
    fast_b2 = tl.load(b2 + h * F + f)
    weight = tl.load(norm_weight + h * F + f)
    bias = tl.load(norm_bias + h * F + f)
    decays = tl.load(decay + place, mask=place < M, other=0.0)
    last_decay = tl.load(decay + M - 1)
    q += n * q_n + h * q_h
    k += n * k_n + h * k_h
    v += n * v_n + h * v_h
    rate += n * rate_n + h * rate_h
    out += n * out_n + h * out_h

    start = 0
    while start < length:
        if states is not None:
            state = states + (program.to(tl.int64) * batches + start // M) * (2 * F * G + G + F)
            tl.store(state + f_g, fast_w1)
            tl.store(state + F * G + g_f, fast_w2)
            tl.store(state + 2 * F * G + g, fast_b1)
            tl.store(state + 2 * F * G + G + f, fast_b2)
        token = start + place
        inside = (place < M) & (token < length)
        keys = tl.load(k + token[:, None] * k_l + f[None, :], mask=inside[:, None], other=0.0)
        values = tl.load(v + token[:, None] * v_l + f[None, :], mask=inside[:, None], other=0.0)
        rates = tl.load(rate + token * rate_l, mask=inside, other=0.0)
        _z, _sigmoid, x, _slope, _unit, _inverse_std, _residual, g2, _h, g1 = _learn(
            keys, values, fast_w1, fast_b1, fast_w2, fast_b2, weight, bias, F
        )
        if start + M > since:
            asked = inside & (token >= since)
            query = token - since
            queries = tl.load(q + query[:, None] * q_l + f[None, :], mask=asked[:, None], other=0.0)
            seen = asked[:, None] & (place[None, :] <= place[:, None])
            causal = tl.where(seen, decays[:, None] * rates[None, :], 0.0)
            _overlap1, _overlap2, _p, _sigmoid, unit, _inverse_std = _answer(
                queries, keys, x, g1, g2, fast_w1, fast_b1, fast_w2, fast_b2, causal, F
            )
            answers = queries + bias[None, :] + unit * weight[None, :]
            tl.store(out + query[:, None] * out_l + f[None, :], answers, mask=asked[:, None])
        if start + M < length:
            scale = (last_decay * rates)[:, None]
            fast_w1 -= _product(tl.trans(keys), scale * g1)
            fast_w2 -= _product(tl.trans(x), scale * g2)
            fast_b1 -= tl.sum(scale * g1, axis=0)
            fast_b2 -= tl.sum(scale * g2, axis=0)
        start += M


@triton.jit(
    do_not_specialize=["H", "L", "Q", "batches", "v_n", "v_l"]
    + [f"{name}_{axis}" for name in ("rate", "d_rate") for axis in "nhl"]
)
def backward_kernel(
    q, k, v, rate, d_out, d_q, d_k, d_v, d_rate, lengths, decay, norm_weight, norm_bias, states, d_shared,
    q_n, q_h, q_l, k_n, k_h, k_l, v_n, v_h, v_l, rate_n, rate_h, rate_l, d_out_n, d_out_h, d_out_l,
    d_q_n, d_q_h, d_q_l, d_k_n, d_k_h, d_k_l, d_v_n, d_v_h, d_v_l, d_rate_n, d_rate_h, d_rate_l,
    H, L, Q, batches, F: tl.constexpr, G: tl.constexpr, M: tl.constexpr, MP: tl.constexpr,
):  # fmt: skip
    """d_shared: [N, H, ...], as stored at the end; lengths: as in forward; d_k, d_v, d_rate: 0 behind the ends."""
    program = tl.program_id(0)
    n = (program // H).to(tl.int64)
    h = (program % H).to(tl.int64)
    f = tl.arange(0, F)
    g = tl.arange(0, G)
    place = tl.arange(0, MP)
    if lengths is None:
        length = L
        since = L - Q
    else:
        length = tl.load(lengths + n)
        since = length - 1
    f_g = f[:, None] * G + g[None, :]
    g_f = g[:, None] * F + f[None, :]
    weight = tl.load(norm_weight + h * F + f)
    bias = tl.load(norm_bias + h * F + f)
    decays = tl.load(decay + place, mask=place < M, other=0.0)
    last_decay = tl.load(decay + M - 1)
    q += n * q_n + h * q_h
    k += n * k_n + h * k_h
    v += n * v_n + h * v_h
    rate += n * rate_n + h * rate_h
    d_out += n * d_out_n + h * d_out_h
    d_q += n * d_q_n + h * d_q_h
    d_k += n * d_k_n + h * d_k_h
    d_v += n * d_v_n + h * d_v_h
    d_rate += n * d_rate_n + h * d_rate_h

    d_decay = tl.zeros([MP], dtype=tl.float32)
    d_weight = tl.zeros([F], dtype=tl.float32)
    d_bias = tl.zeros([F], dtype=tl.float32)
    d_w1 = tl.zeros([F, G], dtype=tl.float32)
    d_b1 = tl.zeros([G], dtype=tl.float32)
    d_w2 = tl.zeros([G, F], dtype=tl.float32)
    d_b2 = tl.zeros([F], dtype=tl.float32)
    start = (length - 1) // M * M
    while start >= 0:
        state = states + (program.to(tl.int64) * batches + start // M) * (2 * F * G + G + F)
        fast_w1 = tl.load(state + f_g)
        fast_w2 = tl.load(state + F * G + g_f)
        fast_b1 = tl.load(state + 2 * F * G + g)
        fast_b2 = tl.load(state + 2 * F * G + G + f)
        token = start + place
        inside = (place < M) & (token < length)
        keys = tl.load(k + token[:, None] * k_l + f[None, :], mask=inside[:, None], other=0.0)
        values = tl.load(v + token[:, None] * v_l + f[None, :], mask=inside[:, None], other=0.0)
        rates = tl.load(rate + token * rate_l, mask=inside, other=0.0)
        z, sigmoid, x, slope, unit, inverse_std, residual, g2, h1, g1 = _learn(
            keys, values, fast_w1, fast_b1, fast_w2, fast_b2, weight, bias, F
        )
        back_k = tl.zeros([MP, F], dtype=tl.float32)
        back_x = tl.zeros([MP, G], dtype=tl.float32)
        back_g1 = tl.zeros([MP, G], dtype=tl.float32)
        back_g2 = tl.zeros([MP, F], dtype=tl.float32)
        back_rate = tl.zeros([MP], dtype=tl.float32)

        if start + M < length:
            # Through the step: d_w1 to d_b2 hold the gradients at the next mini-batch's start, also part of this one's.
            scaled1 = _product(keys, d_w1) + d_b1[None, :]
            scaled2 = _product(x, d_w2) + d_b2[None, :]
            along = tl.sum(scaled1 * g1, axis=1) + tl.sum(scaled2 * g2, axis=1)
            scale = -(last_decay * rates)[:, None]
            back_k = _product(scale * g1, tl.trans(d_w1))
            back_x = _product(scale * g2, tl.trans(d_w2))
            back_g1 = scaled1 * scale
            back_g2 = scaled2 * scale
            back_rate = -along * last_decay
            d_decay -= tl.where(place == M - 1, tl.sum(along * rates, axis=0), 0.0)

        if start + M > since:
            asked = inside & (token >= since)
            query = token - since
            queries = tl.load(q + query[:, None] * q_l + f[None, :], mask=asked[:, None], other=0.0)
            d_answers = tl.load(d_out + query[:, None] * d_out_l + f[None, :], mask=asked[:, None], other=0.0)
            seen = asked[:, None] & (place[None, :] <= place[:, None])
            causal = tl.where(seen, decays[:, None] * rates[None, :], 0.0)
            overlap1, overlap2, p, p_sigmoid, p_unit, p_inverse_std = _answer(
                queries, keys, x, g1, g2, fast_w1, fast_b1, fast_w2, fast_b2, causal, F
            )
            y = p * p_sigmoid
            d_weight += tl.sum(d_answers * p_unit, axis=0)
            d_bias += tl.sum(d_answers, axis=0)
            d_p2 = _normalise_back(d_answers * weight[None, :], p_unit, p_inverse_std, F)
            d_w2 += _product(tl.trans(y), d_p2)
            d_b2 += tl.sum(d_p2, axis=0)
            d_g2, d_x, d_causal2, d_y = _mixed_back(d_p2, y, x, g2, fast_w2, causal, overlap2)
            d_p1 = d_y * _gelu_slope(p, p_sigmoid)
            d_w1 += _product(tl.trans(queries), d_p1)
            d_b1 += tl.sum(d_p1, axis=0)
            d_g1, d_keys, d_causal1, d_queries = _mixed_back(d_p1, queries, keys, g1, fast_w1, causal, overlap1)
            back_k += d_keys
            back_x += d_x
            back_g1 += d_g1
            back_g2 += d_g2
            d_causal = tl.where(seen, d_causal1 + d_causal2, 0.0)
            back_rate += tl.sum(d_causal * decays[:, None], axis=0)
            d_decay += tl.sum(d_causal * rates[None, :], axis=1)
            tl.store(d_q + query[:, None] * d_q_l + f[None, :], d_answers + d_queries, mask=asked[:, None])

        # Through `_learn`; the loss's gradient as in inner_loop_dual._loss_gradient_back.
        d_h = back_g1 * slope
        d_z = _gelu_curvature(z, sigmoid) * h1 * back_g1
        d_w2 += _product(tl.trans(d_h), g2)
        back_g2 += _product(d_h, fast_w2)
        e = residual * weight[None, :]
        pull = back_g2 * inverse_std
        pull_along = _mean(pull * unit, F)
        d_e = pull - _mean(pull, F) - unit * pull_along
        d_r = d_e * weight[None, :]
        d_u = d_r * weight[None, :] - pull * _mean(e * unit, F) - e * pull_along
        d_weight += tl.sum(d_r * unit + d_e * residual, axis=0)
        d_bias += tl.sum(d_r, axis=0)
        along_std = _mean(back_g2 * g2, F) * inverse_std
        d_last = _normalise_back(d_u, unit, inverse_std, F) - unit * along_std
        d_w2 += _product(tl.trans(x), d_last)
        d_b2 += tl.sum(d_last, axis=0)
        back_x += _product(d_last, tl.trans(fast_w2))
        d_z += back_x * slope
        d_w1 += _product(tl.trans(keys), d_z)
        d_b1 += tl.sum(d_z, axis=0)
        back_k += _product(d_z, tl.trans(fast_w1))
        tl.store(d_k + token[:, None] * d_k_l + f[None, :], back_k + d_r, mask=inside[:, None])
        tl.store(d_v + token[:, None] * d_v_l + f[None, :], -d_r, mask=inside[:, None])
        tl.store(d_rate + token * d_rate_l, back_rate, mask=inside)
        start -= M

    d_shared += program.to(tl.int64) * (2 * F * G + G + 3 * F + M)
    tl.store(d_shared + f_g, d_w1)
    tl.store(d_shared + F * G + g_f, d_w2)
    tl.store(d_shared + 2 * F * G + g, d_b1)
    tl.store(d_shared + 2 * F * G + G + f, d_b2)
    tl.store(d_shared + 2 * F * G + G + F + f, d_weight)
    tl.store(d_shared + 2 * F * G + G + 2 * F + f, d_bias)
    tl.store(d_shared + 2 * F * G + G + 3 * F + place, d_decay, mask=place < M)
