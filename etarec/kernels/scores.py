"""Scores of all items and what is asked of them, without the matrix of scores: scores.c, compiled for the processor.

For float32 on the CPU and one thread, which is what a trial beside others has: a library's product of a few rows with
all items spends half of its time on bringing the items into order, for every few rows again. `takes` says whether this
module computes; torch does everywhere else, in scoring.py.

Symbols: B rows, D width, V items, K of Top-K.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etarec.kernels import largest
from etarec.kernels.build import library, takes_floats

SOURCE = Path(__file__).with_name("scores.c")
ROWS, PANEL = 6, 16  # as scores.c has them
WHOLE, BLOCK, CHUNK = 2 * ROWS, 43 * ROWS, 6 * PANEL


class Asked(NamedTuple):
    """Of every row: scores not below its bound int[B], log sum exp [B], the K largest [B, K], descending, and their
    places. What nobody asked for is None."""

    not_below: Tensor | None
    log_sum: Tensor | None
    top_scores: Tensor | None
    top_items: Tensor | None


def takes(hidden: Tensor, vectors: Tensor) -> bool:
    floats = takes_floats(hidden) and takes_floats(vectors) and vectors.is_contiguous()
    return floats and torch.get_num_threads() == 1 and _library_for(vectors) is not None


def scan(hidden: Tensor, vectors: Tensor, bound: Tensor | None, top_k: int, log_sum: bool) -> Asked | None:
    """One look at hidden @ vectors.T, [B, V]. bound: [B, 1]. None where the largest of what is not finite are asked."""
    B, V = hidden.shape[0], vectors.shape[0]
    compiled, padded = _library_for(vectors), _padded(hidden)
    assert compiled is not None
    counts = None if bound is None else torch.empty(B, dtype=torch.long)
    bounds = None if bound is None else bound.contiguous()
    sums = hidden.new_empty(B) if log_sum else None
    values = hidden.new_empty(B, top_k) if top_k else None
    places = torch.empty(B, top_k, dtype=torch.long) if top_k else None
    found, room = largest.room(hidden, V), _room(vectors)
    given = (_address(x) for x in (bounds, counts, sums))
    work = (_address(x) for x in (values, places, *room, *found))
    done = compiled.scan(_address(padded), B, _address(vectors), V, *given, top_k, *work)
    return Asked(counts, sums, values, places) if done == B else None


def softmax_sum(hidden: Tensor, vectors: Tensor) -> Tensor:
    """The sum over rows of softmax(scores): [V]."""
    V, (compiled, padded) = vectors.shape[0], (_library_for(vectors), _padded(hidden))
    assert compiled is not None
    totals, room = hidden.new_zeros(V), _room(vectors)
    work = map(_address, (totals, *room))
    compiled.softmax_sum(_address(padded), hidden.shape[0], _address(vectors), V, *work)
    return totals


def cross_entropy(
    hidden: Tensor,
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    d_vectors: Tensor | None,
    needs_hidden: bool,
) -> tuple[Tensor, Tensor | None]:
    """Each row's log sum exp, [B], and the gradient at `hidden` of the sum over rows of weight (log sum exp - score of
    the target), [B, D], if asked for.

    weights: [B]. d_vectors: [V, D], filled with the gradient at `vectors`. Room: BLOCK V floats.
    """
    B, (compiled, padded) = hidden.shape[0], (_library_for(vectors), _padded(hidden))
    assert compiled is not None
    d_hidden = torch.zeros_like(padded) if needs_hidden else None
    log_sums = hidden.new_empty(B)
    pull = hidden.new_empty(min(len(padded), BLOCK) * (-(-vectors.shape[0] // CHUNK) * CHUNK))
    given = [padded, vectors, targets.contiguous(), weights.contiguous()]
    work = (log_sums, d_hidden, d_vectors, *_room(vectors), pull)
    rows, items, *rest = map(_address, (*given, *work))
    compiled.cross_entropy(rows, B, items, vectors.shape[0], *rest)
    return log_sums, None if d_hidden is None else d_hidden[:B]


def _room(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """For the vectors in the order of the registers, and for all scores of WHOLE rows."""
    width = -(-vectors.shape[0] // PANEL) * PANEL
    return vectors.new_empty(width * vectors.shape[1]), vectors.new_empty(width * WHOLE)


def _padded(hidden: Tensor) -> Tensor:
    """With rows of zeros up to a multiple of ROWS."""
    B, D = hidden.shape
    padded = hidden.new_zeros(-(-B // ROWS) * ROWS, D)
    padded[:B] = hidden.detach()
    return padded


def _address(x: Tensor | None) -> int | None:
    """Good for as long as something else keeps the tensor."""
    return None if x is None else x.data_ptr()


def _library_for(vectors: Tensor) -> ctypes.CDLL | None:
    width = vectors.shape[1]
    return None if width % PANEL else _library(width)


@functools.cache
def _library(width: int) -> ctypes.CDLL | None:
    found = library(SOURCE, ("D", width))
    if found is not None:
        address, number = ctypes.c_void_p, ctypes.c_longlong
        rows: list[Any] = [address, number, address, number]
        found.scan.argtypes = [*rows, address, address, address, number, *[address] * 7]
        found.scan.restype = number
        found.softmax_sum.argtypes = [*rows, address, address, address]
        found.softmax_sum.restype = None
        found.cross_entropy.argtypes = [*rows, *[address] * 8]
        found.cross_entropy.restype = None
    return found
