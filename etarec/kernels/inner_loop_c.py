"""The inner loop in C (inner_loop.c), for TTT-MLP in float32 on the CPU: one pass over each sequence and head.

Equal to inner_loop_dual.py up to rounding, in a fraction of the time.

Symbols: N sequences, T tokens, Q queries, H heads, L positions, F head width, G hidden fast width, M mini-batch.
"""

import ctypes
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from etarec.kernels.build import cpu_float32, library
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm
from etarec.kernels.inner_loop_dual_math import along_last
from etarec.ragged import OutputPositions, Ragged

SOURCE = Path(__file__).with_name("inner_loop.c")
LANES = 8  # floats of a vector, as in lanes.h
_SHARED = ("decay", "norm_weight", "norm_bias", "w1", "b1", "w2", "b2")


def takes(x: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> bool:
    """Whether inner_loop.c computes on tensors like x."""
    if not cpu_float32(x) or len(fast) != 2:
        return False
    sizes = _sizes(decay, fast)
    return not any(size % LANES for size in sizes) and _library(*sizes) is not None


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
    (N, _, L, _), Q = k.shape, q.shape[2]
    q, k, v, token_rate = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v, token_rate))
    sequences = Ragged.padded(N, L, OutputPositions(L - Q, lengths))
    out = ragged_inner_loop(sequences, q, k, v, token_rate, decay, fast, norm)
    return out.unflatten(0, (N, Q)).transpose(1, 2)


def ragged_inner_loop(
    sequences: Ragged,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
) -> Tensor:
    """`dual` of sequences without padding. q: [Q, H, F], as the result; k, v: [T, H, F]; token_rate: [T, H]."""
    compiled = _library(*_sizes(decay, fast))
    assert compiled is not None  # as `takes` said
    layers = [tensor for layer in fast for tensor in layer]
    return _InnerLoop.apply(compiled, sequences, q, k, v, token_rate, decay, *norm, *layers)  # type: ignore[no-untyped-call]


def _sizes(decay: Tensor, fast: Sequence[FastLayer]) -> tuple[int, int, int]:
    """F, G and M."""
    F, G = fast[0].weight.shape[-2:]
    return F, G, decay.shape[0]


@functools.cache
def _library(F: int, G: int, M: int) -> ctypes.CDLL | None:
    found = library(SOURCE, ("F", F), ("G", G), ("M", M))
    if found is not None:
        span: list[Any] = [ctypes.POINTER(_Work), ctypes.c_longlong, ctypes.c_longlong]
        found.inner_loop_forward.argtypes = span
        found.inner_loop_backward.argtypes = [*span, ctypes.POINTER(_Gradients), ctypes.c_void_p]
        found.floats_of_a_state.restype = ctypes.c_longlong
    return found


class _View(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in "th"))


class _Work(ctypes.Structure):
    _fields_ = (
        ("heads", ctypes.c_longlong),
        *((name, ctypes.c_void_p) for name in Ragged._fields),
        *((name, _View) for name in ("q", "k", "v", "rate", "d_out", "out", "d_q", "d_k", "d_v", "d_rate")),
        *((name, ctypes.c_void_p) for name in _SHARED),
    )


class _Gradients(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _SHARED)


class _InnerLoop(torch.autograd.Function):
    """shared: the tensors that _SHARED names, in its order."""

    @staticmethod
    def forward(
        ctx: Any,
        compiled: ctypes.CDLL,
        sequences: Ragged,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rate: Tensor,
        *shared: Tensor,
    ) -> Tensor:
        tensors = {name: along_last(x) for name, x in zip("qkv", (q, k, v), strict=True)}
        tensors |= {"rate": rate, "out": q.new_empty(q.shape)}
        tensors |= {name: x.contiguous() for name, x in zip(_SHARED, shared, strict=True)}
        _over_sequences(compiled.inner_loop_forward, sequences, tensors)
        out = tensors.pop("out")
        ctx.compiled, ctx.sequences, ctx.names = compiled, sequences, list(tensors)
        ctx.save_for_backward(*tensors.values())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,), given = above, dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        tensors = {**given, "d_out": along_last(d_out), "d_q": d_out.new_empty(d_out.shape)}
        tensors |= {f"d_{name}": d_out.new_zeros(given[name].shape) for name in ("k", "v", "rate")}
        compiled, shared = ctx.compiled, [given[name] for name in _SHARED]
        floats = compiled.floats_of_a_state()
        parts = _over_sequences(compiled.inner_loop_backward, ctx.sequences, tensors, shared, floats)
        totals = parts[0] if len(parts) == 1 else [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
        return None, None, *(tensors[f"d_{name}"] for name in ("q", "k", "v", "rate")), *totals


def _over_sequences(
    function: Any, sequences: Ragged, tensors: dict[str, Tensor], shared: Sequence[Tensor] = (), floats: int = 0
) -> list[list[Tensor]]:
    """Runs `function` over all sequences, split among torch's threads; each part's gradients of the `shared` tensors.

    floats: size of the scratch space for one mini-batch; a part gets it for each mini-batch of the longest sequence.
    """
    N, threads, work = len(sequences.lengths), torch.get_num_threads(), _work_of(sequences, tensors)
    parts = threads if threads <= N else 1
    ends = [N * part // parts for part in range(parts + 1)]
    sums = [[torch.zeros_like(x) for x in shared] for _ in range(parts)]
    longest = int(sequences.lengths.max())
    scratch = [tensors["k"].new_empty(-(-longest // tensors["decay"].shape[0]) * floats) for _ in sums]
    calls = [
        (begin, end, *((_Gradients(*(x.data_ptr() for x in own)), room.data_ptr()) if shared else ()))
        for begin, end, own, room in zip(ends, ends[1:], sums, scratch, strict=False)
    ]
    if parts == 1:
        function(work, *calls[0])
    else:  # ctypes releases the interpreter lock
        list(_pool(parts).map(lambda call: function(work, *call), calls))
    return sums


def _work_of(sequences: Ragged, tensors: dict[str, Tensor]) -> _Work:
    """Valid as long as something else keeps the arrays and tensors."""
    work = _Work(
        heads=tensors["k"].shape[1], **{name: array.ctypes.data for name, array in sequences._asdict().items()}
    )
    for name, type_, *_ in _Work._fields_:
        if name in tensors:
            x = tensors[name]
            setattr(work, name, _View(x.data_ptr(), *x.stride()[:2]) if type_ is _View else x.data_ptr())
    return work


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
