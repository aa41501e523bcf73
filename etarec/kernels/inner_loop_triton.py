"""The inner loop on a GPU: launches the Triton kernels of inner_loop_triton_kernels.py, for TTT-MLP in float32.

Equal to inner_loop_dual.py up to rounding, and equal to itself from run to run: gradients of the weights that all
sequences share are summed in a fixed order.

Symbols: N sequences, H heads, L positions, Q queries of a sequence, F head width, G hidden fast width, M mini-batch.
"""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from etarec.kernels.build import compiler, forbidden
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm
from etarec.kernels.inner_loop_dual_math import along_last, heads_inside

FORWARD_WARPS, BACKWARD_WARPS = 4, 4  # the faster of 4 and 8 on an H200, where 2 spill most registers
MIN_TILE = 16  # rows and columns; a product takes no fewer
MAX_WIDTH, MAX_MINI_BATCH = 64, 16  # of F and G, and of M: larger tiles spill more registers


def takes(x: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> bool:
    """Whether the kernels compute on tensors like x; warns, once for each size, where they fail on a GPU."""
    if x.device.type != "cuda" or x.dtype != torch.float32 or len(fast) != 2 or forbidden():
        return False
    return _starts(*fast[0].weight.shape[-2:], decay.shape[0])


@functools.cache
def _starts(F: int, G: int, M: int) -> bool:
    try:
        if compiler() is None:
            raise OSError("there is no C compiler")
        _check(F, G, M)
        try_out(F, G, M)
    except torch.OutOfMemoryError:  # the next attempt may have more memory
        raise
    except Exception as error:  # Triton, its compilers and the device raise errors of many types
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"the inner loop runs in torch, several times slower on a GPU ({reason})", stacklevel=2)
        return False
    return True


def _check(F: int, G: int, M: int) -> None:
    powers = all(size >= MIN_TILE and size & (size - 1) == 0 for size in (F, G))
    if not (powers and F <= G <= MAX_WIDTH and M <= MAX_MINI_BATCH):
        raise ValueError(
            f"given head width {F}, hidden width {G}, mini-batch {M}; the Triton kernels expect widths that are powers "
            f"of 2 from {MIN_TILE} to {MAX_WIDTH}, F <= G, and mini-batches of at most {MAX_MINI_BATCH}"
        )


def inner_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
    lengths: Tensor | None = None,
) -> Tensor:
    """The inner loop; arguments and result are those of `inner_loop_dual.dual`."""
    layers = [tensor for layer in fast for tensor in layer]
    keep = torch.is_grad_enabled()  # inside `forward` it never is
    return _InnerLoop.apply(keep, lengths, q, k, v, token_rate, decay, *norm, *layers)  # type: ignore[no-untyped-call]


def try_out(F: int, G: int, M: int) -> None:
    """Raises Triton's error where it cannot compile or start the kernels, for example without Python's headers."""
    with torch.enable_grad():
        one = torch.ones(1, 1, 1, F, device="cuda", requires_grad=True)
        row, decay = one[0], one.new_ones(M)
        fast = [FastLayer(one.new_ones(1, F, G), one.new_ones(1, 1, G)), FastLayer(one.new_ones(1, G, F), row)]
        inner_loop(one, one, one, one[..., 0], decay, fast, InnerNorm(row, row)).sum().backward()
    torch.cuda.synchronize()


def _kernels() -> Any:
    """Imported at the first use, because most machines have no Triton."""
    from etarec.kernels import inner_loop_triton_kernels

    return inner_loop_triton_kernels


class _InnerLoop(torch.autograd.Function):
    """shared: decay, the norm's two tensors, then weight and bias of both fast layers."""

    @staticmethod
    def forward(
        ctx: Any, keep: bool, lengths: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, *shared: Tensor
    ) -> Tensor:
        (N, H, L, F), Q = k.shape, q.shape[2]
        q, k, v = (along_last(x) for x in (q, k, v))
        decay, norm_weight, norm_bias, w1, b1, w2, b2 = (x.contiguous() for x in shared)
        G, M = w1.shape[-1], decay.shape[0]
        ends = None if lengths is None else lengths.to(q.device, torch.int32)
        out, batches, states = heads_inside(q), -(-L // M), None
        if keep and any(ctx.needs_input_grad):
            states = q.new_empty(N * H, batches, 2 * F * G + G + F)
        others = (ends, decay, norm_weight, norm_bias, w1, b1, w2, b2, states)
        _launch(_kernels().forward_kernel, FORWARD_WARPS, (q, k, v, rate, out), others, (Q, batches, F, G, M))
        if states is not None:
            ctx.sizes, ctx.shapes = (Q, batches, F, G, M), [x.shape for x in shared]
            ctx.save_for_backward(q, k, v, rate, ends, decay, norm_weight, norm_bias, states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, rate, ends, decay, norm_weight, norm_bias, states = ctx.saved_tensors
        (N, H, L, F), (d_out,), (_, _, _, G, M) = k.shape, above, ctx.sizes
        d_q = heads_inside(q)
        d_k, d_v = (q.new_zeros(N, L, H, F).transpose(1, 2) for _ in "kv")
        d_rate = q.new_zeros(N, L, H).transpose(1, 2)
        parts = [F * G, G * F, G, F, F, F, M]
        d_shared = q.new_empty(N, H, sum(parts))
        tensors = (q, k, v, rate, along_last(d_out), d_q, d_k, d_v, d_rate)
        others = (ends, decay, norm_weight, norm_bias, states, d_shared)
        _launch(_kernels().backward_kernel, BACKWARD_WARPS, tensors, others, ctx.sizes)
        w1, w2, b1, b2, weight, bias, d_decay = d_shared.sum(0).split(parts, dim=1)
        totals = (d_decay.sum(0), weight, bias, w1, b1, w2, b2)
        d_totals = (d.reshape(shape) for d, shape in zip(totals, ctx.shapes, strict=True))
        return None, None, d_q, d_k, d_v, d_rate, *d_totals


def _launch(
    kernel: Any, warps: int, strided: Sequence[Tensor], others: Sequence[Tensor | None], sizes: tuple[int, ...]
) -> None:
    """Runs a program for each sequence and head.

    strided: tensors passed with their strides over N, H and L; sizes: Q, mini-batches, F, G and M.
    """
    (N, H, L), (Q, batches, F, G, M) = strided[1].shape[:3], sizes
    strides = [stride for x in strided for stride in x.stride()[:3]]
    rows = max(MIN_TILE, 1 << (M - 1).bit_length())
    with torch.cuda.device_of(strided[0]):
        kernel[(N * H,)](
            *strided, *others, *strides, H, L, Q, batches, F=F, G=G, M=M, MP=rows, num_warps=warps, num_stages=1
        )
