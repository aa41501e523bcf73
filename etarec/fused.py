"""The inner loop compiled for this machine's processor: `dual` in one pass over each sequence and head, inner_loop.c.

It computes what dual.py does, up to rounding, in a fraction of the time, where there is a C compiler, the tensors are
float32 on the CPU and the inner model is TTT-MLP with sizes that are multiples of LANES; everywhere else dual.py does.
ETAREC_INNER_LOOP=torch asks for dual.py everywhere. The library lies beside this package's bytecode, one per source,
sizes and processor; where that folder cannot be written, each process compiles one for itself, in seconds.

Symbols: N sequences, H heads, L positions, F head width, G hidden fast width, M mini-batch.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from etarec.dual import FastLayer, InnerNorm, dual

SOURCE = Path(__file__).with_name("inner_loop.c")
LANES = 8  # of a vector, as inner_loop.c is written
COMPILE_SECONDS = 120.0
# Sums may be taken in another order, as vector units want it; NaN and infinity stay what they are.
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-aggressive-loop-optimizations",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
)
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
    library = _library_for(q, decay, fast)
    if library is None:
        return dual(q, k, v, token_rate, decay, fast, norm, lengths)
    layers = [tensor for layer in fast for tensor in layer]
    return _Fused.apply(library, lengths, q, k, v, token_rate, decay, *norm, *layers)  # type: ignore[no-untyped-call]


def kind() -> str:
    """Which form runs here on the CPU, for whoever has to know why numbers differ in their last digits."""
    return "compiled" if compiler() else "torch"


@functools.cache
def compiler() -> str | None:
    """The C compiler that is used, if any."""
    if os.environ.get("ETAREC_INNER_LOOP") == "torch":
        return None
    found = (shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang"))
    return next((path for path in found if path), None)


def _library_for(q: Tensor, decay: Tensor, fast: Sequence[FastLayer]) -> ctypes.CDLL | None:
    if q.device.type != "cpu" or q.dtype != torch.float32 or len(fast) != 2:
        return None
    F, G = fast[0].weight.shape[-2:]
    M = decay.shape[0]
    return None if F % LANES or G % LANES or M % LANES else _library(F, G, M)


@functools.cache
def _library(F: int, G: int, M: int) -> ctypes.CDLL | None:
    """The loaded library; None where there is no compiler, or it does not understand what it is given."""
    cc = compiler()
    if cc is None:
        return None
    sizes = [f"-DF={F}", f"-DG={G}", f"-DM={M}"]
    key = "\0".join([SOURCE.read_text(encoding="utf-8"), cc, *FLAGS, *sizes, _processor()])
    name = f"inner_loop-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    kept = SOURCE.parent / "__pycache__" / name
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, name)
            command = [cc, *FLAGS, *sizes, "-shared", "-fPIC", str(SOURCE), "-o", str(made), "-lm"]
            if not _compiles(command):
                return None
            if not _moves(made, kept):
                return _load(made)  # stays loaded when the file is gone
    return _load(kept)


def _compiles(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _moves(made: Path, kept: Path) -> bool:
    """Whether the file stands complete in its place; other processes may do the same at the same time."""
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(made, partial)
        partial.replace(kept)
        return True
    except OSError:
        return False


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    span: list[Any] = [ctypes.POINTER(_Work), ctypes.c_longlong, ctypes.c_longlong]
    library.inner_loop_forward.argtypes = span
    library.inner_loop_backward.argtypes = [*span, ctypes.POINTER(_Gradients), ctypes.c_void_p]
    return library


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


class _View(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in "nhl"))


class _Work(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_longlong) for name in ("sequences", "heads", "positions", "asked")),
        ("lengths", ctypes.c_void_p),
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
        library: ctypes.CDLL,
        lengths: Tensor | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rate: Tensor,
        *shared: Tensor,
    ) -> Tensor:
        tensors = {name: _along_last(x) for name, x in zip("qkv", (q, k, v), strict=True)}
        tensors |= {"rate": rate, "out": _heads_inside(q)}
        tensors |= {name: x.contiguous() for name, x in zip(_SHARED, shared, strict=True)}
        if lengths is not None:
            tensors["lengths"] = lengths.to(torch.int64).contiguous()
        _over_sequences(library.inner_loop_forward, tensors)
        out = tensors.pop("out")
        ctx.library, ctx.names = library, list(tensors)
        ctx.save_for_backward(*tensors.values())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,), given = above, dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        N, H, L, F = given["k"].shape
        tensors = {**given, "d_out": _along_last(d_out), "d_q": _heads_inside(d_out)}
        tensors |= {f"d_{name}": d_out.new_zeros(N, L, H, F).transpose(1, 2) for name in "kv"}
        tensors["d_rate"] = d_out.new_zeros(N, L, H).transpose(1, 2)
        parts = _over_sequences(ctx.library.inner_loop_backward, tensors, [given[name] for name in _SHARED])
        totals = [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
        return None, None, *(tensors[f"d_{name}"] for name in ("q", "k", "v", "rate")), *totals


def _along_last(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _heads_inside(like: Tensor) -> Tensor:
    """[N, H, L, F] that is [N, L, H, F] in memory, so that joining the heads costs nothing."""
    N, H, L, F = like.shape
    return like.new_empty(N, L, H, F).transpose(1, 2)


def _over_sequences(function: Any, tensors: dict[str, Tensor], shared: Sequence[Tensor] = ()) -> list[list[Tensor]]:
    """Runs over all sequences, a part for each of torch's threads; each part's gradients of what is `shared`."""
    (N, H, L, _), threads = tensors["k"].shape, torch.get_num_threads()
    work = _Work(sequences=N, heads=H, positions=L, asked=tensors["q"].shape[2])
    for name, type_, *_ in _Work._fields_:
        if name in tensors:
            x = tensors[name]
            setattr(work, name, _View(x.data_ptr(), *x.stride()[:3]) if type_ is _View else x.data_ptr())
    parts = threads if threads <= N else 1
    ends = [N * part // parts for part in range(parts + 1)]
    sums = [[torch.zeros_like(x) for x in shared] for _ in range(parts)]
    states = -(-L // tensors["decay"].shape[0])  # of the longest sequence, each with its matrices transposed as well
    size = states * sum(x[0].numel() * (1 + (x.shape[1] > 1)) for x in shared[3:])
    rooms = [tensors["k"].new_empty(size) for _ in sums]
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
