"""Losses over all items, and their gradients, in blocks of scores that stay in cache.

kernels/scores.py computes them where it takes the tensors; otherwise, this module does in torch.

Symbols: B rows (samples), D width, V items without the padding id.
hidden: [B, D]; vectors: [V, D], row i being item code i + 1; table: [padding + V, D], the same behind `padding` rows;
targets: int[B], rows of `vectors`.

Scores are hidden @ vectors.T, of which one block exists at a time. A loss adds 4 V D bytes for the gradient at the
item vectors, up to three times while autograd passes it on; the loss over drawn items 8 bytes per row and drawn item.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec.kernels import scores as c_scores
from etarec.kernels.reductions import log_sum_exp, softmax
from etarec.kernels.scores import Selection
from etarec.score_blocks import (
    BLOCK,
    holds_whole_rows,
    log_total_by_chunks,
    row_blocks,
    rows_of_block,
    slices,
    softmax_chunks,
)


def cross_entropy(
    hidden: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor | None = None, padding: int = 0
) -> Tensor:
    """Weighted mean over rows of -log softmax(scores)[target]; its gradients are computed with it, block by block.

    weights: [B], constants; None gives the plain mean. The weighted mean divides by B, as EATA's does. padding: number
    of rows in `vectors` before those of the items; the gradient of a slice would be copied into one of the table.
    """
    weights = hidden.new_ones(hidden.shape[0]) if weights is None else weights
    return cross_entropy_sum(hidden, vectors, targets, weights / hidden.shape[0], padding)


def cross_entropy_sum(hidden: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor, padding: int = 0) -> Tensor:
    """`cross_entropy` as a weighted sum over rows instead of a mean."""
    apply = _CrossEntropy.apply
    return apply(hidden, vectors, targets, weights, padding)  # type: ignore[no-untyped-call]  # torch's own


def selected_cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, threshold: float, *, below: bool, padding: int = 0
) -> Tensor:
    """`cross_entropy` among the items that a gate by loss would admit: sum over rows of weights . -log p(target).

    A gate that admits targets whose loss lies on one side of E0 shows the model a selection of targets. The likelihood
    of a selected target is the softmax over the items j that would have been admitted in its place: -log p_j < E0, with
    p the softmax over all items. The target always belongs to them; the selection is a constant for the gradient.

    Args:
        hidden: [B, D].
        table: [padding + V, D], item vectors behind `padding` rows.
        targets: int[B].
        weights: [B], constants.
        threshold: E0 in nats.
        below: False for a gate that admits losses of at least E0.
        padding: rows of `table` before those of the items.
    """
    apply = _SelectedCrossEntropy.apply
    return apply(hidden, table, targets, weights, Selection(threshold, below), padding)  # type: ignore[no-untyped-call]


def drawn_cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, negatives: int, rng: np.random.Generator, padding: int = 0
) -> Tensor:
    """Mean of `cross_entropy`, with the normaliser estimated from `negatives` items drawn now, or from all.

    The n drawn items are distinct, drawn uniformly from all V and shared by the rows. The r of them that are not a
    row's target are a uniform sample of its V - 1 non-targets, so e^own + (V - 1) / r * sum e^other is an unbiased
    estimate of the normaliser (logQ correction: Bengio & Senecal 2008, doi 10.1109/TNN.2007.912312), and exact where
    all items are drawn. Its logarithm is too small on average, by less the more items are drawn. The table's gradient
    is sparse. Takes 8 B n bytes in float32.

    Args:
        hidden: [B, D].
        table: [padding + V, D], item vectors behind `padding` rows.
        targets: int[B].
        negatives: n, at least 2.
        rng: draws the items.
        padding: rows of `table` before those of the items.
    """
    n_items = table.shape[0] - padding
    drawn = np.sort(rng.choice(n_items, min(negatives, n_items), replace=False))
    apply = _DrawnCrossEntropy.apply
    return apply(hidden, table, targets, torch.from_numpy(drawn).to(targets.device), padding)  # type: ignore[no-untyped-call]


@torch.no_grad()
def losses(hidden: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(scores)[target] of each row, without gradients: [B]."""
    return _log_sums(hidden, vectors) - (hidden * vectors[targets]).sum(1)


def _log_sums(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Each row's log sum exp over all items: [B]."""
    if c_scores.takes(hidden, vectors):
        scanned = c_scores.scan(hidden, vectors, None, 0, log_sum=True)
        assert scanned is not None and scanned.log_sum is not None
        return scanned.log_sum
    found = hidden.new_empty(hidden.shape[0])
    if holds_whole_rows(vectors):
        for rows, scores in row_blocks(hidden, vectors):
            found[rows] = log_sum_exp(scores)[:, 0]
    else:
        for rows in slices(hidden.shape[0], rows_of_block(hidden, vectors)):
            found[rows] = log_total_by_chunks(hidden[rows], vectors)[:, 0]
    return found


class _CrossEntropy(torch.autograd.Function):
    """A row's gradient is softmax - onehot(target), so one pass over a block gives loss and gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, padding: int) -> Tensor:
        found, *gradients = _losses_and_gradients(hidden, table, targets, weights, padding, ctx.needs_input_grad[:2])
        ctx.save_for_backward(*gradients)
        return (found * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_scaled(ctx.saved_tensors, grads[0]), None, None, None


class _DrawnCrossEntropy(torch.autograd.Function):
    """A row's loss is softplus(others - own), others being the log of the estimated sum over its non-targets."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, drawn: Tensor, padding: int) -> Tensor:
        own_vectors, vectors = table[targets + padding], table[drawn + padding]
        scores = hidden @ vectors.T
        column = torch.searchsorted(drawn, targets).clamp_(max=len(drawn) - 1)
        hit = drawn[column] == targets
        scores[hit.nonzero()[:, 0], column[hit]] = -torch.inf
        p, log_total = softmax(scores)
        rate = (len(drawn) - hit.to(hidden.dtype)) / (table.shape[0] - padding - 1)
        excess = log_total[:, 0] - rate.log() - (hidden * own_vectors).sum(1)
        pull = torch.sigmoid(excess)[:, None] / len(hidden)
        grad_hidden = (p.mul_(pull) @ vectors).addcmul_(pull, own_vectors, value=-1)
        rows = torch.cat((targets, drawn))[None] + padding
        values = torch.cat((hidden * -pull, p.T @ hidden))
        ctx.save_for_backward(grad_hidden, rows, values)
        ctx.shape = table.shape
        return -F.logsigmoid(-excess).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, rows, values = ctx.saved_tensors
        grad_table = torch.sparse_coo_tensor(rows, values * grads[0], ctx.shape, check_invariants=False)
        return grad_hidden * grads[0], grad_table, None, None, None


class _SelectedCrossEntropy(torch.autograd.Function):
    """The gradient of a row's loss is softmax over the selected items - onehot(target)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, selected: Selection, padding: int
    ) -> Tensor:
        vectors, grad_table = table[padding:], torch.zeros_like(table)
        if c_scores.takes(hidden, vectors):
            grad_vectors = grad_table[padding:]
            sums, grad_hidden = c_scores.cross_entropy(hidden, vectors, targets, weights, grad_vectors, True, selected)
            losses = sums - (hidden * vectors[targets]).sum(1)
        else:
            losses, grad_hidden = _selected(hidden, vectors, targets, weights, selected, grad_table[padding:])
        ctx.save_for_backward(grad_hidden, grad_table)
        return (losses * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_scaled(ctx.saved_tensors, grads[0]), None, None, None, None


def _scaled(gradients: tuple[Tensor | None, ...], upstream: Tensor) -> list[Tensor | None]:
    """Gradients times the scalar gradient from above, which is nearly always 1: that saves a pass over the table."""
    whole = upstream.device.type == "cpu" and float(upstream) == 1
    return [each if whole or each is None else each * upstream for each in gradients]


def _selected(
    hidden: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor, selected: Selection, grad_vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Each row's loss among the selected items, and the gradient at `hidden`; that at `vectors` is added in place."""
    losses, grad_hidden = torch.empty_like(weights), torch.empty_like(hidden)
    for rows in slices(len(hidden), max(1, BLOCK[hidden.device.type] // len(vectors))):
        scores = hidden[rows] @ vectors.T
        place, weight = targets[rows, None], weights[rows, None]
        kept = (log_sum_exp(scores) - scores < selected.threshold) == selected.below
        own = scores.gather(1, place)
        scores.masked_fill_(~kept, -torch.inf).scatter_(1, place, own)
        p, log_total = softmax(scores)
        losses[rows] = (log_total - own)[:, 0]
        pull = p.mul_(weight).scatter_add_(1, place, -weight)
        torch.mm(pull, vectors, out=grad_hidden[rows])
        grad_vectors.addmm_(pull.T, hidden[rows])
    return losses, grad_hidden


def _losses_and_gradients(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, padding: int, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Each row's loss, and the needed gradients of the weighted sum of losses, at `hidden` and `table`."""
    vectors, (needs_hidden, needs_table) = table[padding:], needs
    grad_table = torch.zeros_like(table) if needs_table else None
    grad_vectors = None if grad_table is None else grad_table[padding:]
    if c_scores.takes(hidden, vectors):
        if any(needs):
            total, grad_hidden = c_scores.cross_entropy(hidden, vectors, targets, weights, grad_vectors, needs_hidden)
        else:
            total, grad_hidden = _log_sums(hidden, vectors), None
        return total - (hidden * vectors[targets]).sum(1), grad_hidden, grad_table
    losses = hidden.new_empty(hidden.shape[0])
    grad_hidden = torch.empty_like(hidden) if needs_hidden else None
    for rows in slices(hidden.shape[0], rows_of_block(hidden, vectors)):
        h, target, weight = hidden[rows], targets[rows], weights[rows, None]
        if grad_hidden is not None:
            grad_hidden[rows] = -weight * vectors[target]
        if grad_vectors is not None:
            grad_vectors.index_add_(0, target, -weight * h)
        for items, _, p, log_total in softmax_chunks(h, vectors):
            losses[rows] = log_total[:, 0] - (h * vectors[target]).sum(1)
            if grad_hidden is None and grad_vectors is None:
                break
            pull = p.mul_(weight)
            if grad_hidden is not None:
                grad_hidden[rows].addmm_(pull, vectors[items])
            if grad_vectors is not None:
                grad_vectors[items].addmm_(pull.T, h)
    return losses, grad_hidden, grad_table
