"""Work over all items: ranks, Top-K, the mean of softmaxes and the losses, in blocks of scores that stay in cache.

kernels/scores.py computes it where it takes the tensors; otherwise, this module does in torch.

Symbols: B rows (samples), D width, V items without the padding id, K of Top-K, C items of a chunk.
hidden: [B, D]; vectors: [V, D], row i being item code i + 1; targets: int[B], rows of `vectors`.

Scores are hidden @ vectors.T. Only one block of them exists at a time, so peak memory beyond arguments and results is
BLOCK * 4 bytes for the scores and as much for their softmax; the loss adds V * D * 4, up to three times while autograd
passes its gradient on. The C code holds a packed copy of the vectors. The loss over drawn items takes 8 bytes
per row and drawn item instead.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec.kernels import scores as c_scores
from etarec.kernels.reductions import count_not_below, log_sum_exp, softmax, top
from etarec.kernels.scores import Selection

BLOCK = {"cpu": 2**19, "cuda": 2**27}  # scores of a block: two MiB fit a core's cache, a GPU wants large products
MAX_ITEMS_OF_ROWS = 2**15  # up to here a block holds whole rows; beyond, a chunk of items for all rows


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
    if vectors.shape[0] > MAX_ITEMS_OF_ROWS:
        parts = _slices(hidden.shape[0], _rows_of(hidden, vectors))
        bounds = ((r, None if bound is None else bound[r]) for r in parts)
        scans = [_scan_by_items(hidden[r], vectors, part, top_k, log_sums) for r, part in bounds]
    else:
        scans = []
        for rows, scores in _row_blocks(hidden, vectors):
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
    for chunk, scores in _item_chunks(hidden, vectors):
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
    """Of p, the softmax over all items: entropy [B] in nats, norm [B] = |p|, along [B] = p . direction (0 without)."""

    entropy: Tensor
    norm: Tensor
    along: Tensor


def spread(hidden: Tensor, vectors: Tensor, direction: Tensor | None) -> Spread:
    """Statistics of the softmax over all items, for a gate with K = V, whose Top-K would be a sort. direction: [V]."""
    parts = [_spread_rows(h, vectors, direction) for h in hidden.split(_rows_of(hidden, vectors))]
    return Spread(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _spread_rows(hidden: Tensor, vectors: Tensor, direction: Tensor | None) -> Spread:
    entropy = hidden.new_zeros(hidden.shape[0])
    square, along = torch.zeros_like(entropy), torch.zeros_like(entropy)
    for items, scores, p, log_total in _softmax_chunks(hidden, vectors):
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
    for h in hidden.split(_rows_of(hidden, vectors)):
        for items, _, p, _ in _softmax_chunks(h, vectors):
            total[items] += p.sum(0)
    return total / hidden.shape[0]


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
    if vectors.shape[0] <= MAX_ITEMS_OF_ROWS:
        for rows, scores in _row_blocks(hidden, vectors):
            found[rows] = log_sum_exp(scores)[:, 0]
    else:
        for rows in _slices(hidden.shape[0], _rows_of(hidden, vectors)):
            found[rows] = _log_total(hidden[rows], vectors)[:, 0]
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
        whole = grads[0].device.type == "cpu" and float(grads[0]) == 1  # nearly always; saves a pass over the table
        scaled = (None if g is None else g if whole else g * grads[0] for g in ctx.saved_tensors)
        return *scaled, None, None, None


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
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grads[0], grad_table * grads[0], None, None, None, None


def _selected(
    hidden: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor, selected: Selection, grad_vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Each row's loss among the selected items, and the gradient at `hidden`; that at `vectors` is added in place."""
    losses, grad_hidden = torch.empty_like(weights), torch.empty_like(hidden)
    for rows in _slices(len(hidden), max(1, BLOCK[hidden.device.type] // len(vectors))):
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
    for rows in _slices(hidden.shape[0], _rows_of(hidden, vectors)):
        h, target, weight = hidden[rows], targets[rows], weights[rows, None]
        if grad_hidden is not None:
            grad_hidden[rows] = -weight * vectors[target]
        if grad_vectors is not None:
            grad_vectors.index_add_(0, target, -weight * h)
        for items, _, p, log_total in _softmax_chunks(h, vectors):
            losses[rows] = log_total[:, 0] - (h * vectors[target]).sum(1)
            if grad_hidden is None and grad_vectors is None:
                break
            pull = p.mul_(weight)
            if grad_hidden is not None:
                grad_hidden[rows].addmm_(pull, vectors[items])
            if grad_vectors is not None:
                grad_vectors[items].addmm_(pull.T, h)
    return losses, grad_hidden, grad_table


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _rows_of(hidden: Tensor, vectors: Tensor) -> int:
    """Rows of a block: a few whole rows of a small catalogue, 256 rows of a chunk of a large one."""
    if vectors.shape[0] > MAX_ITEMS_OF_ROWS:
        return 256
    return max(8, BLOCK[hidden.device.type] // vectors.shape[0])


def _row_blocks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of whole rows of scores, each overwritten by the next."""
    size = _rows_of(hidden, vectors)
    buffer = hidden.new_empty(min(size, hidden.shape[0]), vectors.shape[0])
    for rows in _slices(hidden.shape[0], size):
        out = buffer[: rows.stop - rows.start]
        yield rows, torch.mm(hidden[rows].detach(), vectors.detach().T, out=out)


def _item_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of items and the scores of all rows for them, each overwritten by the next."""
    size = vectors.shape[0]
    if size > MAX_ITEMS_OF_ROWS:
        size = max(1024, BLOCK[hidden.device.type] // hidden.shape[0])
    buffer = hidden.new_empty(hidden.shape[0] * min(size, vectors.shape[0]))
    for items in _slices(vectors.shape[0], size):
        width = items.stop - items.start
        out = buffer[: hidden.shape[0] * width].view(hidden.shape[0], width)
        yield items, torch.mm(hidden.detach(), vectors[items].detach().T, out=out)


def _softmax_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Chunks of items, of their scores and of their softmax over all items, and each row's log sum exp, [B, 1].

    The caller may overwrite both chunks. Scores are computed once where rows are whole, twice beyond.
    """
    if vectors.shape[0] <= MAX_ITEMS_OF_ROWS:
        for items, scores in _item_chunks(hidden, vectors):
            yield items, scores, *softmax(scores)
        return
    total = _log_total(hidden, vectors)
    for items, scores in _item_chunks(hidden, vectors):
        p, log_sum = softmax(scores)
        yield items, scores, p.mul_((log_sum - total).exp()), total


def _log_total(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Each row's log sum exp over all items, chunk by chunk: [B, 1]."""
    total = hidden.new_full((hidden.shape[0], 1), -torch.inf)
    for _, scores in _item_chunks(hidden, vectors):
        total = torch.logaddexp(total, log_sum_exp(scores))
    return total
