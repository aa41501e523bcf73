"""What is looked for in a block of scores: each row's K largest, and how many lie not below a bound.

Compiled for the processor (scan.c) where there is a C compiler and the scores are float32 on the CPU, else by torch.

Symbols: B rows, V scores of a row, K largest.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from etarec.kernels.build import library, takes

SOURCE = Path(__file__).with_name("scan.c")
GROUP = 8  # scores whose maximum stands for them in the search for the largest


def top(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The K largest scores of each row, descending, and their places: [B, K] of [B, V]."""
    few = top_k * GROUP <= scores.shape[1]  # of more, torch's way is as fast
    compiled = _library() if few and takes(scores) else None
    found = None if compiled is None else _top_compiled(compiled, scores, top_k)
    return _top(scores, top_k) if found is None else found


def count_not_below(scores: Tensor, bound: Tensor) -> Tensor:
    """int[B]: the scores of each row that are not below its bound, [B, 1]. The scores may be overwritten.

    Not `>=`, which is false for a score that is not a number: a diverged model would have its targets on top.
    """
    compiled = _library() if takes(scores) else None
    if compiled is None:
        # A sum of ones as floats, exact up to 2^24 of them, is several times faster than of booleans.
        return scores.shape[1] - torch.lt(scores, bound, out=scores).sum(1).long()
    counts, bounds = torch.empty(len(scores), dtype=torch.long), bound.contiguous()
    compiled.count_not_below(scores.data_ptr(), *scores.shape, bounds.data_ptr(), counts.data_ptr())
    return counts


def _top(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Every GROUP places apart make up a group, and the K largest are among the K groups with the largest maxima."""
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


def _top_compiled(compiled: ctypes.CDLL, scores: Tensor, top_k: int) -> tuple[Tensor, Tensor] | None:
    """None where a score is not finite: torch knows an order of those."""
    B, V = scores.shape
    values, places = scores.new_empty(B, top_k), torch.empty(B, top_k, dtype=torch.long)
    work = room(scores, V)  # kept while its addresses are in use
    given = (x.data_ptr() for x in (values, places, *work))
    return (values, places) if compiled.largest(scores.data_ptr(), B, V, top_k, *given) == B else None


def room(like: Tensor, V: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the compiled search works in: values found, their places and those of groups, maxima, as row.h says."""
    return like.new_empty(V + 1), torch.empty(V + V // GROUP + 1, dtype=torch.int32), like.new_empty(V // 4 + 1)


@functools.cache
def _library() -> ctypes.CDLL | None:
    found = library(SOURCE)
    if found is not None:
        address, number = ctypes.c_void_p, ctypes.c_longlong
        found.largest.argtypes = [address, number, number, number, *[address] * 5]
        found.largest.restype = number
        found.count_not_below.argtypes = [address, number, number, address, address]
    return found
