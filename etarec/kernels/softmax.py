"""The softmax of a block of scores and the logarithm of its denominator, the way to a loss over all items.

Compiled for the processor (softmax.c) where there is a C compiler and the scores are float32 on the CPU, else by torch.

Symbols: B rows, V scores of a row.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from etarec.kernels.build import library, takes

SOURCE = Path(__file__).with_name("softmax.c")


def softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """softmax over each row, [B, V], and log sum exp, [B, 1]."""
    compiled = _library() if takes(scores) else None
    if compiled is None:
        p = torch.softmax(scores, 1)
        log_sum = scores.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()  # without another visit to exp
        return p, log_sum
    p, log_sum = torch.empty_like(scores), scores.new_empty(len(scores), 1)
    compiled.softmax(scores.data_ptr(), *scores.shape, p.data_ptr(), log_sum.data_ptr())
    return p, log_sum


def log_sum_exp(scores: Tensor) -> Tensor:
    """Of each row: [B, 1]."""
    compiled = _library() if takes(scores) else None
    if compiled is None:
        return softmax(scores)[1]
    log_sum = scores.new_empty(len(scores), 1)
    compiled.softmax(scores.data_ptr(), *scores.shape, None, log_sum.data_ptr())
    return log_sum


@functools.cache
def _library() -> ctypes.CDLL | None:
    found = library(SOURCE)
    if found is not None:
        address, number = ctypes.c_void_p, ctypes.c_longlong
        found.softmax.argtypes = [address, number, number, address, address]
        found.softmax.restype = None
    return found
