"""Blocks of scores that stay in cache: hidden @ vectors.T for a few rows, or for a few items, at a time.

Symbols: B rows, D width, V items, C items of a chunk. hidden: [B, D]; vectors: [V, D].
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from etarec.kernels.reductions import log_sum_exp, softmax

BLOCK = {"cpu": 2**19, "cuda": 2**27}  # scores of a block: two MiB fit a core's cache, a GPU wants large products
MAX_ITEMS_OF_ROWS = 2**15  # up to here a block holds whole rows; beyond, a chunk of items for all rows


def holds_whole_rows(vectors: Tensor) -> bool:
    """Whether a block holds the scores of all items for a few rows."""
    return vectors.shape[0] <= MAX_ITEMS_OF_ROWS


def slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def rows_of_block(hidden: Tensor, vectors: Tensor) -> int:
    """Rows of a block: a few whole rows of a small catalogue, 256 rows of a chunk of a large one."""
    if not holds_whole_rows(vectors):
        return 256
    return max(8, BLOCK[hidden.device.type] // vectors.shape[0])


def row_blocks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of whole rows of scores, each overwritten by the next."""
    size = rows_of_block(hidden, vectors)
    buffer = hidden.new_empty(min(size, hidden.shape[0]), vectors.shape[0])
    for rows in slices(hidden.shape[0], size):
        out = buffer[: rows.stop - rows.start]
        yield rows, torch.mm(hidden[rows].detach(), vectors.detach().T, out=out)


def item_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of items and the scores of all rows for them, each overwritten by the next."""
    size = vectors.shape[0]
    if not holds_whole_rows(vectors):
        size = max(1024, BLOCK[hidden.device.type] // hidden.shape[0])
    buffer = hidden.new_empty(hidden.shape[0] * min(size, vectors.shape[0]))
    for items in slices(vectors.shape[0], size):
        width = items.stop - items.start
        out = buffer[: hidden.shape[0] * width].view(hidden.shape[0], width)
        yield items, torch.mm(hidden.detach(), vectors[items].detach().T, out=out)


def softmax_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Chunks of items, of their scores and of their softmax over all items, and each row's log sum exp, [B, 1].

    The caller may overwrite both chunks. Scores are computed once where rows are whole, twice beyond.
    """
    if holds_whole_rows(vectors):
        for items, scores in item_chunks(hidden, vectors):
            yield items, scores, *softmax(scores)
        return
    total = log_total_by_chunks(hidden, vectors)
    for items, scores in item_chunks(hidden, vectors):
        p, log_sum = softmax(scores)
        yield items, scores, p.mul_((log_sum - total).exp()), total


def log_total_by_chunks(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Each row's log sum exp over all items, chunk by chunk: [B, 1]."""
    total = hidden.new_full((hidden.shape[0], 1), -torch.inf)
    for _, scores in item_chunks(hidden, vectors):
        total = torch.logaddexp(total, log_sum_exp(scores))
    return total
