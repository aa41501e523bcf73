"""The inner loop compiled for this machine's processor: `dual` in one pass over each sequence and head, inner_loop.c.

It computes what inner_loop_dual.py does, up to rounding, in a fraction of the time, where there is a C compiler, the
tensors are float32 on the CPU and the inner model is TTT-MLP with sizes that are multiples of LANES. On a GPU with
Triton, inner_loop_triton.py does the same; everywhere else inner_loop_dual.py does.

Symbols: N sequences, T tokens, Q queries, H heads, L positions, F head width, G hidden fast width, M mini-batch.
"""

import ctypes
import functools
import importlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from etarec.kernels.build import compiler, forbidden, library
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm, dual
from etarec.kernels.inner_loop_dual_math import along_last
from etarec.ragged import Ragged

SOURCE = Path(__file__).with_name("inner_loop.c")
LANES = 8  # of a vector, as inner_loop.c is written
_SHARED = ("decay", "norm_weight", "norm_bias", "w1", "b1", "w2", "b2")


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
    """As `dual`."""
    kernels = _triton_for(q, decay, fast)
    if kernels is not None:
        return kernels.inner_loop(q, k, v, token_rate, decay, fast, norm, lengths)
    if not takes(q, decay, fast):
        return dual(q, k, v, token_rate, decay, fast, norm, lengths)
    (N, _, L, _), Q = k.shape, q.shape[2]
    q, k, v, token_rate = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v, token_rate))
    out = inner_loop_of(Ragged.padded(N, L, Q, lengths), q, k, v, token_rate, decay, fast, norm)
    return out.unflatten(0, (N, Q)).transpose(1, 2)


def inner_loop_of(
    sequences: Ragged,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
) -> Tensor:
    """The same of sequences without padding, where `takes` says so. q: [Q, H, F] as the result; k, v: [T, H, F];
    token_rate: [T, H]."""
    compiled = _library_for(q, decay, fast)
    layers = [tensor for layer in fast for tensor in layer]
    return _Fused.apply(compiled, sequences, q, k, v, token_rate, decay, *norm, *layers)  # type: ignore[no-untyped-call]


def takes(x: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> bool:
    """Whether inner_loop.c computes with tensors like x here."""
    return _library_for(x, decay, fast) is not None


def _triton_for(q: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> Any:
    """The module inner_loop_triton where it computes this, else None."""
    if q.device.type != "cuda" or q.dtype != torch.float32 or len(fast) != 2 or forbidden():
        return None
    return _triton(*fast[0].weight.shape[-2:], decay.shape[0])


def kernels() -> str:
    """What computes the inner loop on a GPU here, for whoever has to know why numbers differ in their last digits."""
    try:
        version = importlib.import_module("triton").__version__
    except ImportError:
        return "torch"
    return "torch" if compiler() is None else f"triton {version}"


@functools.cache
def _triton(F: int, G: int, M: int) -> Any:
    """Imported and tried out when it is first needed: most machines have no Triton. It asks for a C compiler, too."""
    try:
        if compiler() is None:
            raise OSError("no C compiler is here")
        module = importlib.import_module("etarec.kernels.inner_loop_triton")
        module.check(F, G, M)
        module.try_out(F, G, M)
    except torch.OutOfMemoryError:  # says nothing of the next time
        raise
    except Exception as error:  # whatever Triton, its compilers and the device raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"the inner loop is left to torch, several times slower on a GPU ({reason})", stacklevel=2)
        return None
    return module


def _library_for(q: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> ctypes.CDLL | None:
    if q.device.type != "cpu" or q.dtype != torch.float32 or len(fast) != 2:
        return None
    F, G = fast[0].weight.shape[-2:]
    M = decay.shape[0]
    return None if F % LANES or G % LANES or M % LANES else _library(F, G, M)


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


class _Fused(torch.autograd.Function):
    """shared: decay, the norm's two tensors, then weight and bias of both fast layers, as _SHARED names them."""

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
    """Runs over all sequences, a part for each of torch's threads; each part's gradients of what is `shared`.

    floats: of room for each mini-batch of the longest sequence.
    """
    N, threads = len(sequences.lengths), torch.get_num_threads()
    places = {name: array.ctypes.data for name, array in sequences._asdict().items()}
    work = _Work(heads=tensors["k"].shape[1], **places)
    for name, type_, *_ in _Work._fields_:
        if name in tensors:
            x = tensors[name]
            setattr(work, name, _View(x.data_ptr(), *x.stride()[:2]) if type_ is _View else x.data_ptr())
    parts = threads if threads <= N else 1
    ends = [N * part // parts for part in range(parts + 1)]
    sums = [[torch.zeros_like(x) for x in shared] for _ in range(parts)]
    longest = int(sequences.lengths.max())
    rooms = [tensors["k"].new_empty(-(-longest // tensors["decay"].shape[0]) * floats) for _ in sums]
    calls = [
        (begin, end, *((_Gradients(*(x.data_ptr() for x in own)), room.data_ptr()) if shared else ()))
        for begin, end, own, room in zip(ends, ends[1:], sums, rooms, strict=False)
    ]
    if parts == 1:
        function(work, *calls[0])
    else:  # ctypes lets go of the interpreter
        list(_pool(parts).map(lambda call: function(work, *call), calls))
    return sums


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
