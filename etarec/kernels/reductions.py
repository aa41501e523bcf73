"""Reductions of a given block of scores: Top-K, the number not below a bound, softmax and log sum exp of each row.

reductions.c computes them where `takes` says so, torch everywhere else.

Symbols: B rows, V scores of a row, K of Top-K.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from etarec.kernels.build import cpu_float32, library

SOURCE = Path(__file__).with_name("reductions.c")
GROUP = 8  # scores that share a maximum in the search for the largest
MAX_THREADS = 3  # reductions.c uses one thread; torch shares out the rows among its own, faster when there are more


def takes(scores: Tensor, top_k: int = 0) -> bool:
    """Whether reductions.c computes on this block; for K > V / GROUP torch's Top-K is as fast."""
    fits = scores.is_contiguous() and top_k * GROUP <= scores.shape[1]
    return fits and cpu_float32(scores) and torch.get_num_threads() <= MAX_THREADS and _library() is not None


def top(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The K largest scores of each row, descending, and their places: [B, K] of [B, V]."""
    found = _top_c(scores, top_k) if takes(scores, top_k) else None
    return _top(scores, top_k) if found is None else found


def count_not_below(scores: Tensor, bound: Tensor) -> Tensor:
    """int[B]: the number of scores of each row not below its bound, [B, 1]. May overwrite the scores.

    Not `>=`, which is false for NaN: the targets of a diverged model would rank first.
    """
    if not takes(scores):
        # A sum of ones as floats, exact up to 2^24 of them, is several times faster than one of booleans.
        return scores.shape[1] - torch.lt(scores, bound, out=scores).sum(1).long()
    counts, bounds = torch.empty(len(scores), dtype=torch.long), bound.contiguous()
    _loaded().count_not_below(scores.data_ptr(), *scores.shape, bounds.data_ptr(), counts.data_ptr())
    return counts


def softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax of each row, [B, V], and its log sum exp, [B, 1]."""
    if not takes(scores):
        p = torch.softmax(scores, 1)
        return p, scores.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()  # no second pass of exp over the row
    p, log_sum = torch.empty_like(scores), scores.new_empty(len(scores), 1)
    _loaded().softmax(scores.data_ptr(), *scores.shape, p.data_ptr(), log_sum.data_ptr())
    return p, log_sum


def log_sum_exp(scores: Tensor) -> Tensor:
    """The log sum exp of each row: [B, 1]."""
    if not takes(scores):
        return softmax(scores)[1]
    log_sum = scores.new_empty(len(scores), 1)
    _loaded().softmax(scores.data_ptr(), *scores.shape, None, log_sum.data_ptr())
    return log_sum


def scratch(like: Tensor, V: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scratch arrays of the search for the largest, as row.h wants them: values, places with groups, and maxima."""
    return like.new_empty(V + 1), torch.empty(V + V // GROUP + 1, dtype=torch.int32), like.new_empty(V // 4 + 1)


def _top(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Places that lie V / GROUP apart form a group; the K largest are among the K groups of the largest maxima."""
    B, V = scores.shape
    groups = V // GROUP
    if top_k * 2 * GROUP > V:
        values, places = scores.topk(top_k)
        return values, places
    grouped = scores[:, : groups * GROUP].view(B, GROUP, groups)
    best = grouped.amax(1).topk(top_k, sorted=False).indices[:, None]
    candidates = grouped.gather(2, best.expand(-1, GROUP, -1)).flatten(1)
    places = (best + groups * torch.arange(GROUP, device=scores.device)[:, None]).flatten(1)
    rest = torch.arange(groups * GROUP, V, device=scores.device).expand(B, -1)
    candidates, places = torch.cat((candidates, scores[:, groups * GROUP :]), 1), torch.cat((places, rest), 1)
    values, chosen = candidates.topk(top_k)
    return values, places.gather(1, chosen)


def _top_c(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor] | None:
    """None where a score is not finite: torch defines an order for those."""
    B, V = scores.shape
    values, places = scores.new_empty(B, top_k), torch.empty(B, top_k, dtype=torch.long)
    work = scratch(scores, V)  # kept while its addresses are in use
    given = (x.data_ptr() for x in (values, places, *work))
    return (values, places) if _loaded().largest(scores.data_ptr(), B, V, top_k, *given) == B else None


def _loaded() -> ctypes.CDLL:
    found = _library()
    assert found is not None  # as `takes` said
    return found


@functools.cache
def _library() -> ctypes.CDLL | None:
    found = library(SOURCE)
    if found is not None:
        address, number = ctypes.c_void_p, ctypes.c_longlong
        found.largest.argtypes = [address, number, number, number, *[address] * 5]
        found.largest.restype = number
        found.count_not_below.argtypes = [address, number, number, address, address]
        found.count_not_below.restype = None
        found.softmax.argtypes = [address, number, number, address, address]
        found.softmax.restype = None
    return found
