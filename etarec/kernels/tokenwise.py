"""The token-wise part of a TTT4Rec block, before and after its inner loop, in C (tokenwise.c).

For float32 on the CPU, one thread and small widths, as in trials that run side by side: there, torch's fifty small
operations a pass cost more than their arithmetic. Where `takes` says no, models/ttt4rec.py computes the same in torch.

Symbols: N sequences, T tokens, Q queries, D width, H heads, W width of the SwiGLU, M mini-batch.
"""

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from etarec.kernels.build import cpu_float32, library
from etarec.ragged import Int64s, Ragged

SOURCE = Path(__file__).with_name("tokenwise.c")
PANEL = 16  # as in tokenwise.c
MAX_WIDTH, MAX_MLP_WIDTH = 128, 512  # beyond, products outweigh the rest, and the matrices of tokenwise.c the stack


class Sizes(NamedTuple):
    """The constants that tokenwise.c is compiled with."""

    D: int
    H: int
    W: int
    M: int


class Projections(NamedTuple):
    """Weights before the inner loop: norm [D]; queries, keys and values [D, D]; rates [H, D] with their bias [H]."""

    norm: Tensor
    wq: Tensor
    wk: Tensor
    wv: Tensor
    wrate: Tensor
    bias: Tensor


class Mixing(NamedTuple):
    """Weights after the inner loop: its norm, the output projection, the norm and the matrices of the SwiGLU."""

    norm_weight: Tensor
    norm_bias: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


def takes(x: Tensor, sizes: Sizes) -> bool:
    """Whether tokenwise.c computes on tensors like x."""
    fits = sizes.D <= MAX_WIDTH and sizes.W <= MAX_MLP_WIDTH and not sizes.D % PANEL and not sizes.W % PANEL
    return fits and cpu_float32(x) and torch.get_num_threads() == 1 and _library(sizes) is not None


def before(
    sequences: Ragged,
    x: Tensor,
    weights: Projections,
    rotary: tuple[Tensor, Tensor],
    sizes: Sizes,
    inner_loop: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x [T, D] -> x at the queries and their projections [Q, D], keys and values [T, D], sigmoids of the rates [T, H].

    Without `inner_loop` the last three have no rows. Rows between the sequences are not written. rotary: cos and sin,
    [M, D / H].
    """
    where = {"starts": sequences.starts, "lengths": sequences.lengths}
    where |= {"tokens": sequences.tokens, "places": sequences.positions % sizes.M}
    return _Before.apply(where, rotary, sizes, inner_loop, x, *weights)  # type: ignore[no-untyped-call]


def after(out: Tensor, x: Tensor, weights: Mixing, sizes: Sizes) -> Tensor:
    """Outputs of the inner loop and inputs x of the block at the same tokens, both [Q, D] -> outputs of the block."""
    return _After.apply(sizes, out, x, *weights)  # type: ignore[no-untyped-call]


class _Work(ctypes.Structure):
    """A struct of tokenwise.c: numbers, and addresses by the names of their tensors."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], **numbers: int) -> "_Work":
        """Valid as long as something else keeps the tensors."""
        return cls(**numbers, **{name: x.data_ptr() for name, x in tensors.items()})


_NUMBER, _ADDRESS = ctypes.c_longlong, ctypes.c_void_p


class _BeforeWork(_Work):
    _fields_ = (
        ("sequences", _NUMBER),
        ("starts", _ADDRESS),
        ("lengths", _ADDRESS),
        ("queries", _NUMBER),
        ("tokens", _ADDRESS),
        ("places", _ADDRESS),
        ("inner_loop", _NUMBER),
        *((name, _ADDRESS) for name in ("x", *Projections._fields, "cos", "sin")),
        *((f"to_{name}", _ADDRESS) for name in ("q", "k", "v", "rate", "residual")),
        *((f"d_{name}", _ADDRESS) for name in ("q", "k", "v", "rate", "residual")),
        *((f"d_{name}", _ADDRESS) for name in ("x", *Projections._fields)),
    )


class _AfterWork(_Work):
    _fields_ = (
        ("tokens", _NUMBER),
        *((name, _ADDRESS) for name in ("out", "x", *Mixing._fields, "to_y", "d_y")),
        *((f"d_{name}", _ADDRESS) for name in ("out", "x", *Mixing._fields)),
    )


class _Before(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        where: dict[str, Int64s],
        rotary: tuple[Tensor, Tensor],
        sizes: Sizes,
        inner_loop: bool,
        x: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        (T, D), Q = x.shape, len(where["tokens"])
        names, tensors = ("x", *Projections._fields, "cos", "sin"), (x, *weights, *rotary)
        given = {name: tensor.contiguous() for name, tensor in zip(names, tensors, strict=True)}
        queries = [x.new_empty(Q, D) for _ in range(2)]
        keys = [x.new_empty(T if inner_loop else 0, width) for width in (D, D, sizes.H)]
        made = dict(zip(("to_residual", "to_q", "to_k", "to_v", "to_rate"), (*queries, *keys), strict=True))
        ctx.numbers = {"sequences": len(where["starts"]), "queries": Q, "inner_loop": int(inner_loop)}
        ctx.numbers |= {name: array.ctypes.data for name, array in where.items()}
        _loaded(sizes).before(_BeforeWork.of(given | made, **ctx.numbers))
        kept = given | {"to_rate": made["to_rate"]}
        ctx.sizes, ctx.where, ctx.names = sizes, where, tuple(kept)
        ctx.save_for_backward(*kept.values())
        return tuple(made.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        names = ("d_residual", "d_q", "d_k", "d_v", "d_rate")
        given = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        given |= {name: d.contiguous() for name, d in zip(names, above, strict=True)}
        made = {f"d_{name}": torch.zeros_like(given[name]) for name in ("x", *Projections._fields)}
        _loaded(ctx.sizes).before_back(_BeforeWork.of(given | made, **ctx.numbers))
        return None, None, None, None, *made.values()


class _After(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sizes: Sizes, *tensors: Tensor) -> Tensor:
        given = dict(zip(("out", "x", *Mixing._fields), (x.contiguous() for x in tensors), strict=True))
        y = torch.empty_like(given["x"])
        ctx.sizes, ctx.tokens = sizes, len(y)
        _loaded(sizes).after(_AfterWork.of(given | {"to_y": y}, tokens=ctx.tokens))
        ctx.save_for_backward(*given.values())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        names = ("out", "x", *Mixing._fields)
        given = dict(zip(names, ctx.saved_tensors, strict=True)) | {"d_y": above[0].contiguous()}
        made = {f"d_{name}": torch.zeros_like(given[name]) for name in names}
        _loaded(ctx.sizes).after_back(_AfterWork.of(given | made, tokens=ctx.tokens))
        return None, *made.values()


def _loaded(sizes: Sizes) -> ctypes.CDLL:
    found = _library(sizes)
    assert found is not None  # as `takes` said
    return found


@functools.cache
def _library(sizes: Sizes) -> ctypes.CDLL | None:
    found = library(SOURCE, *sizes._asdict().items())
    if found is not None:
        for name, work in {"before": _BeforeWork, "after": _AfterWork}.items():
            for function in (getattr(found, name), getattr(found, f"{name}_back")):
                function.argtypes, function.restype = [ctypes.POINTER(work)], None
    return found
