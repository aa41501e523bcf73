"""What a block of TTT4Rec does to each token by itself, before and after its inner loop: tokenwise.c, compiled.

For float32 on the CPU, one thread and small widths, which is what a trial beside others has: there torch's fifty small
operations a pass cost more than their arithmetic. `takes` says whether this module computes; models/ttt4rec.py is what
it computes, and does so everywhere else.

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

from etarec.kernels.build import library, takes_floats
from etarec.ragged import Int64s, Ragged

SOURCE = Path(__file__).with_name("tokenwise.c")
PANEL = 16  # as tokenwise.c has it
WIDEST, WIDEST_MLP = 128, 512  # beyond, products outweigh the rest, and tokenwise.c would want more than a stack holds


class Sizes(NamedTuple):
    """What tokenwise.c is compiled for."""

    D: int
    H: int
    W: int
    M: int


class Projections(NamedTuple):
    """Weights [outputs, inputs] before the inner loop: of the norm [D], queries, keys, values, and its rates [H, D]
    with bias [H]."""

    norm: Tensor
    wq: Tensor
    wk: Tensor
    wv: Tensor
    wrate: Tensor
    bias: Tensor


class Mixing(NamedTuple):
    """Weights after the inner loop: its norm's, output projection, norm and the three matrices of the SwiGLU."""

    norm_weight: Tensor
    norm_bias: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


def takes(x: Tensor, sizes: Sizes) -> bool:
    fits = sizes.D <= WIDEST and sizes.W <= WIDEST_MLP and not sizes.D % PANEL and not sizes.W % PANEL
    return fits and takes_floats(x) and torch.get_num_threads() == 1 and _library(sizes) is not None


def before(
    sequences: Ragged,
    x: Tensor,
    weights: Projections,
    rotary: tuple[Tensor, Tensor],
    sizes: Sizes,
    inner_loop: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x: [T, D] -> the rows of x that are asked for and their queries [Q, D], keys and values [T, D], and sigmoids of
    the rates [T, H]; the last three are of no tokens without `inner_loop`, and not written between the sequences.

    rotary: cos and sin [M, D / H].
    """
    where = {"starts": sequences.starts, "lengths": sequences.lengths}
    where |= {"tokens": sequences.tokens, "places": sequences.positions % sizes.M}
    return _Before.apply(where, rotary, sizes, inner_loop, x, *weights)  # type: ignore[no-untyped-call]


def after(out: Tensor, x: Tensor, weights: Mixing, sizes: Sizes) -> Tensor:
    """out: what the inner loop answers, x: what the block was given at the same tokens, both [Q, D] -> [Q, D], the
    block's output."""
    return _After.apply(sizes, out, x, *weights)  # type: ignore[no-untyped-call]


class _Work(ctypes.Structure):
    """Its fields are numbers and, by the names of tensors, addresses; as in tokenwise.c."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], **numbers: int) -> "_Work":
        """Good for as long as something else keeps the tensors."""
        return cls(**numbers, **{name: x.data_ptr() for name, x in tensors.items()})


_NUMBER, _ADDRESS = ctypes.c_longlong, ctypes.c_void_p


class _BeforeWork(_Work):
    _fields_ = (
        ("sequences", _NUMBER),
        ("starts", _ADDRESS),
        ("lengths", _ADDRESS),
        ("asked", _NUMBER),
        ("tokens", _ADDRESS),
        ("places", _ADDRESS),
        ("inner_loop", _NUMBER),
        *((name, _ADDRESS) for name in ("x", *Projections._fields, "cos", "sin")),
        *((f"to_{name}", _ADDRESS) for name in ("q", "k", "v", "rate", "asked")),
        *((f"d_{name}", _ADDRESS) for name in ("q", "k", "v", "rate", "asked")),
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
        made = dict(zip(("to_asked", "to_q", "to_k", "to_v", "to_rate"), (*queries, *keys), strict=True))
        ctx.numbers = {"sequences": len(where["starts"]), "asked": Q, "inner_loop": int(inner_loop)}
        ctx.numbers |= {name: array.ctypes.data for name, array in where.items()}
        _compiled(sizes).before(_BeforeWork.of(given | made, **ctx.numbers))
        kept = given | {"to_rate": made["to_rate"]}
        ctx.sizes, ctx.where, ctx.names = sizes, where, tuple(kept)
        ctx.save_for_backward(*kept.values())
        return tuple(made.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        names = ("d_asked", "d_q", "d_k", "d_v", "d_rate")
        given = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        given |= {name: d.contiguous() for name, d in zip(names, above, strict=True)}
        made = {f"d_{name}": torch.zeros_like(given[name]) for name in ("x", *Projections._fields)}
        _compiled(ctx.sizes).before_back(_BeforeWork.of(given | made, **ctx.numbers))
        return None, None, None, None, *made.values()


class _After(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sizes: Sizes, *tensors: Tensor) -> Tensor:
        given = dict(zip(("out", "x", *Mixing._fields), (x.contiguous() for x in tensors), strict=True))
        y = torch.empty_like(given["x"])
        ctx.sizes, ctx.tokens = sizes, len(y)
        _compiled(sizes).after(_AfterWork.of(given | {"to_y": y}, tokens=ctx.tokens))
        ctx.save_for_backward(*given.values())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        names = ("out", "x", *Mixing._fields)
        given = dict(zip(names, ctx.saved_tensors, strict=True)) | {"d_y": above[0].contiguous()}
        made = {f"d_{name}": torch.zeros_like(given[name]) for name in names}
        _compiled(ctx.sizes).after_back(_AfterWork.of(given | made, tokens=ctx.tokens))
        return None, *made.values()


def _compiled(sizes: Sizes) -> ctypes.CDLL:
    found = _library(sizes)
    assert found is not None
    return found


@functools.cache
def _library(sizes: Sizes) -> ctypes.CDLL | None:
    found = library(SOURCE, *sizes._asdict().items())
    if found is not None:
        for name, work in {"before": _BeforeWork, "after": _AfterWork}.items():
            for function in (getattr(found, name), getattr(found, f"{name}_back")):
                function.argtypes, function.restype = [ctypes.POINTER(work)], None
    return found
