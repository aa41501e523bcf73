"""Ranks, Top-K and statistics of the softmax over all items, in blocks of scores that stay in cache.

kernels/scores.py computes it where it takes the tensors; otherwise, this module does in torch.

Symbols: B rows (samples), D width, V items without the padding id, K of Top-K.
hidden: [B, D]; vectors: [V, D], row i being item code i + 1; targets: int[B], rows of `vectors`.

Scores are hidden @ vectors.T. Only one block of them exists at a time, so peak memory beyond arguments and results is
4 bytes for each score of a block (`score_blocks.BLOCK`) and as much for its softmax. The C code holds a packed copy of
the vectors.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from etarec.kernels import scores as c_scores
from etarec.kernels.reductions import count_not_below, log_sum_exp, top
from etarec.score_blocks import holds_whole_rows, item_chunks, row_blocks, rows_of_block, slices, softmax_chunks


class Scan(NamedTuple):
    """ranks: int[B], the number of other items not scored below the target, NaN included; None without targets.
    top_scores: [B, K], descending, and top_items: int[B, K]; None when K is 0.
    losses: [B], -log softmax(scores)[target]; None unless requested.
    """

    ranks: Tensor | None
    top_scores: Tensor | None
    top_items: Tensor | None
    losses: Tensor | None = None

    def of(self, rows: slice) -> "Scan":
        return Scan(*(None if column is None else column[rows] for column in self))


def scan(hidden: Tensor, vectors: Tensor, targets: Tensor | None, top_k: int, losses: bool = False) -> Scan:
    """Ranks of the targets, the K largest scores of each row and, on request, the targets' losses, in one pass."""
    bound = None if targets is None else _tie_bound(hidden, vectors[targets])
    found = _scan(hidden, vectors, bound, top_k, losses)
    if found.losses is None or targets is None:
        return found
    return found._replace(losses=found.losses - (hidden * vectors[targets]).sum(1))


def _scan(hidden: Tensor, vectors: Tensor, bound: Tensor | None, top_k: int, log_sums: bool) -> Scan:
    """`scan` with the log sum exp of each row in the place of its loss."""
    if c_scores.takes(hidden, vectors, top_k):
        found = c_scores.scan(hidden, vectors, bound, top_k, log_sums)
        if found is not None:
            ranks = None if found.not_below is None else found.not_below - 1
            return Scan(ranks, found.top_scores, found.top_items, found.log_sum)
    if not holds_whole_rows(vectors):
        parts = slices(hidden.shape[0], rows_of_block(hidden, vectors))
        bounds = ((r, None if bound is None else bound[r]) for r in parts)
        scans = [_scan_by_items(hidden[r], vectors, part, top_k, log_sums) for r, part in bounds]
    else:
        scans = []
        for rows, scores in row_blocks(hidden, vectors):
            values, items = top(scores, top_k) if top_k else (None, None)
            sums = log_sum_exp(scores)[:, 0] if log_sums else None
            ranks = None if bound is None else count_not_below(scores, bound[rows]) - 1  # may overwrite the scores
            scans.append(Scan(ranks, values, items, sums))
    columns = zip(*scans, strict=True)
    return Scan(*(None if column[0] is None else torch.cat(column) for column in columns))


def _scan_by_items(hidden: Tensor, vectors: Tensor, bound: Tensor | None, top_k: int, log_sums: bool) -> Scan:
    # In place: small tensors left by every chunk would lie between the large ones and block the reuse of their memory.
    counts = None if bound is None else torch.zeros(hidden.shape[0], dtype=torch.long, device=hidden.device)
    total = hidden.new_full((hidden.shape[0],), -torch.inf) if log_sums else None
    top_scores: Tensor | None = None
    top_items: Tensor | None = None
    for chunk, scores in item_chunks(hidden, vectors):
        if top_k:
            values, items = top(scores, min(top_k, scores.shape[1]))
            items += chunk.start
            if top_scores is not None and top_items is not None:
                values, items = torch.cat((top_scores, values), 1), torch.cat((top_items, items), 1)
            top_scores, place = values.topk(min(top_k, values.shape[1]))
            top_items = items.gather(1, place)
        if total is not None:
            torch.logaddexp(total, log_sum_exp(scores)[:, 0], out=total)
        if counts is not None and bound is not None:  # comes last, because it overwrites the scores
            counts += count_not_below(scores, bound)
    return Scan(None if counts is None else counts - 1, top_scores, top_items, total)


def _tie_bound(hidden: Tensor, own_vectors: Tensor) -> Tensor:
    """The smallest score that ties with the target's: [B, 1]. own_vectors: [B, D], the targets'.

    The order of a matrix product's sums differs from column to column, so equal vectors may score differently in the
    last bits, by about sqrt(D) eps sum |x_i y_i| at most (Higham & Mary 2019, doi 10.1137/18M1226312).
    """
    terms = hidden * own_vectors
    slack = hidden.shape[1] ** 0.5 * torch.finfo(hidden.dtype).eps * terms.abs().sum(1)
    return (terms.sum(1) - slack)[:, None]


class Spread(NamedTuple):
    """The softmax p over all items: entropy [B] in nats, norm [B] = |p|, along [B] = p . direction (or 0)."""

    entropy: Tensor
    norm: Tensor
    along: Tensor


def spread(hidden: Tensor, vectors: Tensor, direction: Tensor | None) -> Spread:
    """Statistics of the softmax over all items, for a gate with K = V, whose Top-K would be a sort. direction: [V]."""
    parts = [_spread_rows(h, vectors, direction) for h in hidden.split(rows_of_block(hidden, vectors))]
    return Spread(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _spread_rows(hidden: Tensor, vectors: Tensor, direction: Tensor | None) -> Spread:
    entropy = hidden.new_zeros(hidden.shape[0])
    square, along = torch.zeros_like(entropy), torch.zeros_like(entropy)
    for items, scores, p, log_total in softmax_chunks(hidden, vectors):
        entropy -= scores.sub_(log_total).mul_(p).sum(1)
        square += torch.mul(p, p, out=scores).sum(1)
        if direction is not None:
            along += p @ direction[items]
    return Spread(entropy, square.sqrt(), along)


def mean_softmax(hidden: Tensor, vectors: Tensor) -> Tensor:
    """The mean over rows of softmax(scores): [V]."""
    if c_scores.takes(hidden, vectors):
        return c_scores.softmax_sum(hidden, vectors) / hidden.shape[0]
    total = hidden.new_zeros(vectors.shape[0])
    for h in hidden.split(rows_of_block(hidden, vectors)):
        for items, _, p, _ in softmax_chunks(h, vectors):
            total[items] += p.sum(0)
    return total / hidden.shape[0]
