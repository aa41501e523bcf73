"""Scores of all items and their reductions, without the matrix of scores, in C (scores.c).

For float32 on the CPU and one thread, as in trials that run side by side: a library's product of a few rows and all
items spends half of its time packing the items, again for every few rows. Where `takes` says no, scoring.py and
likelihood.py compute the same in torch.

Symbols: B rows, D width, V items, K of Top-K.
"""

import ctypes
import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etarec.kernels import reductions
from etarec.kernels.build import cpu_float32, library

SOURCE = Path(__file__).with_name("scores.c")
# Sizes of blocks; scores.c has the same constants.
ROWS, PANEL = 6, 16
WHOLE_ROWS, BLOCK, CHUNK = 2 * ROWS, 43 * ROWS, 6 * PANEL
MAX_ITEMS = 2**15  # of WHOLE_ROWS rows, more scores would not fit the second cache


class Found(NamedTuple):
    """By row, None where not wanted: the number of scores not below its bound, int[B]; log sum exp, [B]; the K
    largest scores, descending, and their items, both [B, K]."""

    not_below: Tensor | None
    log_sum: Tensor | None
    top_scores: Tensor | None
    top_items: Tensor | None


class Selection(NamedTuple):
    """The items j with -log p_j below the threshold, or with `below` False those with at least it; p is the softmax."""

    threshold: float
    below: bool


def takes(hidden: Tensor, vectors: Tensor, top_k: int = 0) -> bool:
    """Whether scores.c computes on tensors like these."""
    V, D = vectors.shape
    fits = not D % PANEL and V <= MAX_ITEMS and top_k * reductions.GROUP <= V and vectors.is_contiguous()
    return fits and cpu_float32(hidden, vectors) and torch.get_num_threads() == 1 and _library(D) is not None


def scan(hidden: Tensor, vectors: Tensor, bound: Tensor | None, top_k: int, log_sum: bool) -> Found | None:
    """One pass over hidden @ vectors.T, [B, V]. bound: [B, 1]. None where K > 0 and a score is not finite."""
    B, V = hidden.shape[0], vectors.shape[0]
    padded = _padded(hidden)
    counts = None if bound is None else torch.empty(B, dtype=torch.long)
    bounds = None if bound is None else bound.contiguous()
    sums = hidden.new_empty(B) if log_sum else None
    values = hidden.new_empty(B, top_k) if top_k else None
    places = torch.empty(B, top_k, dtype=torch.long) if top_k else None
    found, packed = reductions.scratch(hidden, V), _scratch(vectors)
    given = (_address(x) for x in (bounds, counts, sums))
    work = (_address(x) for x in (values, places, *packed, *found))
    done = _loaded(vectors).scan(_address(padded), B, _address(vectors), V, *given, top_k, *work)
    return Found(counts, sums, values, places) if done == B else None


def softmax_sum(hidden: Tensor, vectors: Tensor) -> Tensor:
    """The sum over rows of softmax(scores): [V]."""
    V, padded = vectors.shape[0], _padded(hidden)
    totals, packed = hidden.new_zeros(V), _scratch(vectors)
    work = map(_address, (totals, *packed))
    _loaded(vectors).softmax_sum(_address(padded), hidden.shape[0], _address(vectors), V, *work)
    return totals


def cross_entropy(
    hidden: Tensor,
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    d_vectors: Tensor | None,
    needs_hidden: bool,
    selected: Selection | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Each row's log sum exp, [B], and, if needed, the gradient at `hidden`, [B, D], of the sum over rows of weight
    (log sum exp - score of the target).

    weights: [B]. d_vectors: [V, D], overwritten with the gradient at `vectors`. selected: the items that count beside
    each row's target, None for all. Scratch: BLOCK V floats.
    """
    B, padded = hidden.shape[0], _padded(hidden)
    d_hidden = torch.zeros_like(padded) if needs_hidden else None
    log_sums = hidden.new_empty(B)
    pull = hidden.new_empty(min(len(padded), BLOCK) * (-(-vectors.shape[0] // CHUNK) * CHUNK))
    given = [padded, vectors, targets.contiguous(), weights.contiguous()]
    work = [log_sums, d_hidden, d_vectors, *_scratch(vectors), pull]
    rows, items, *labels = map(_address, given)
    side, least = (0, 0.0) if selected is None else (1 if selected.below else -1, math.exp(-selected.threshold))
    _loaded(vectors).cross_entropy(rows, B, items, vectors.shape[0], *labels, side, least, *map(_address, work))
    return log_sums, None if d_hidden is None else d_hidden[:B]


def _scratch(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Arrays for the packed vectors and for all scores of WHOLE_ROWS rows."""
    width = -(-vectors.shape[0] // PANEL) * PANEL
    return vectors.new_empty(width * vectors.shape[1]), vectors.new_empty(width * WHOLE_ROWS)


def _padded(hidden: Tensor) -> Tensor:
    """hidden, filled up with zeros to a multiple of ROWS."""
    B, D = hidden.shape
    padded = hidden.new_zeros(-(-B // ROWS) * ROWS, D)
    padded[:B] = hidden.detach()
    return padded


def _address(x: Tensor | None) -> int | None:
    """Valid as long as something else keeps the tensor."""
    return None if x is None else x.data_ptr()


def _loaded(vectors: Tensor) -> ctypes.CDLL:
    found = _library(vectors.shape[1])
    assert found is not None  # as `takes` said
    return found


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
        found.cross_entropy.argtypes = [*rows, address, address, number, ctypes.c_float, *[address] * 6]
        found.cross_entropy.restype = None
    return found
