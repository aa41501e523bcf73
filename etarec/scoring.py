"""Everything that touches all items: ranks, Top-K, the mean of softmaxes and the loss, in blocks that stay in cache.

Where scores.py computes it, compiled for the processor; what stands here is the same in torch, for everywhere else.

Symbols: B rows (samples), D width, V items without the padding id, K of Top-K, C items of a chunk.
hidden: [B, D]; vectors: [V, D], row i being item code i + 1; targets: int[B], rows of `vectors`.

Scores are hidden @ vectors.T. Never more than a block of them exists at a time, so peak memory beyond the arguments and
results is BLOCK * 4 bytes for the scores, as much again for what is computed from them, and the loss V * D * 4 (up to
three times while its gradient is handed on); compiled, a copy of the vectors in another order. Sampled, the loss takes
12 bytes per row and sampled item instead.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from etarec.kernels import scores as products
from etarec.kernels.largest import GROUP, count_not_below, top
from etarec.kernels.softmax import log_sum_exp, softmax

BLOCK = {"cpu": 2**19, "cuda": 2**27}  # scores of a block: two MiB fit a core's cache, a GPU wants large products
WHOLE_ROWS = 2**15  # up to so many items a block holds whole rows; beyond, all rows of a chunk of items


class Scan(NamedTuple):
    """ranks: int[B], number of other items not scored below the target, None without targets; top_scores: [B, K]
    descending and top_items: int[B, K], None when K is 0; losses: [B], -log softmax(scores)[target], None if nobody
    asked. A score that is not a number counts against the target."""

    ranks: Tensor | None
    top_scores: Tensor | None
    top_items: Tensor | None
    losses: Tensor | None = None

    def of(self, rows: slice) -> "Scan":
        return Scan(*(None if column is None else column[rows] for column in self))


def scan(hidden: Tensor, vectors: Tensor, targets: Tensor | None, top_k: int, losses: bool = False) -> Scan:
    """Ranks of the targets and the K largest scores of each row, in one pass over the scores; with `losses`, those of
    the targets too."""
    bound = None if targets is None else _tie_bound(hidden, vectors[targets])
    found = _scan(hidden, vectors, bound, top_k, losses)
    if found.losses is None or targets is None:
        return found
    return found._replace(losses=found.losses - (hidden * vectors[targets]).sum(1))


def _scan(hidden: Tensor, vectors: Tensor, bound: Tensor | None, top_k: int, log_sums: bool) -> Scan:
    """`losses` of the result: each row's log sum exp."""
    if _compiled(hidden, vectors) and top_k * GROUP <= vectors.shape[0]:
        asked = products.scan(hidden, vectors, bound, top_k, log_sums)
        if asked is not None:
            ranks = None if asked.not_below is None else asked.not_below - 1
            return Scan(ranks, asked.top_scores, asked.top_items, asked.log_sum)
    if vectors.shape[0] > WHOLE_ROWS:
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
    # In place: small results kept from every chunk would lie between the large ones and keep their memory from reuse.
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
    """The least score that ties with the target's: [B, 1]. own_vectors: [B, D], the targets'.

    Matrix products sum in an order that differs from column to column, so equal vectors may score differently in the
    last bits: by about sqrt(D) eps sum |x_i y_i| at most (Higham & Mary 2019, doi 10.1137/18M1226312).
    """
    terms = hidden * own_vectors
    slack = hidden.shape[1] ** 0.5 * torch.finfo(hidden.dtype).eps * terms.abs().sum(1)
    return (terms.sum(1) - slack)[:, None]


class Spread(NamedTuple):
    """Of p = softmax over all items: entropy [B] in nats, norm [B] = |p|, along [B] = p . direction (0 without one)."""

    entropy: Tensor
    norm: Tensor
    along: Tensor


def spread(hidden: Tensor, vectors: Tensor, direction: Tensor | None) -> Spread:
    """What the gate needs of a softmax over all items (K = V), where a Top-K would be a sort. direction: [V]."""
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
    if _compiled(hidden, vectors):
        return products.softmax_sum(hidden, vectors) / hidden.shape[0]
    total = hidden.new_zeros(vectors.shape[0])
    for h in hidden.split(_rows_of(hidden, vectors)):
        for items, _, p, _ in _softmax_chunks(h, vectors):
            total[items] += p.sum(0)
    return total / hidden.shape[0]


def cross_entropy(
    hidden: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor | None = None, padding: int = 0
) -> Tensor:
    """Weighted mean over rows of -log softmax(scores)[target]; its gradients are made along with it, block by block.

    weights: [B], constants; None gives the plain mean. The weighted mean divides by B, as EATA's does. padding: so many
    rows come in `vectors` before those of the items; a slice would have its gradient copied into one of the whole.
    """
    weights = hidden.new_ones(hidden.shape[0]) if weights is None else weights
    apply = _CrossEntropy.apply
    scaled = weights / hidden.shape[0]
    return apply(hidden, vectors, targets, scaled, padding)  # type: ignore[no-untyped-call]  # torch's own


def sampled_cross_entropy(
    hidden: Tensor, own_vectors: Tensor, sampled_vectors: Tensor, hits: Tensor, n_items: int
) -> Tensor:
    """Mean over rows of -log softmax(scores)[target], the normaliser estimated from n items that all rows share.

    own_vectors: [B, D], the targets'; sampled_vectors: [n, D] of distinct items, 2 or more, drawn uniformly from all
    V = n_items; hits: bool[B, n], where a sampled item is the row's target. The r others of a row are a uniform sample
    of its V - 1 non-targets, so e^own + (V - 1) / r * sum e^other has the normaliser as its mean (logQ correction:
    Bengio & Senecal 2008, doi 10.1109/TNN.2007.912312) and is the normaliser where all items are drawn.
    Its logarithm lies below on average, by less the more are drawn. Takes up to 12 B n bytes in float32.
    """
    own = (hidden * own_vectors).sum(1)
    others = (hidden @ sampled_vectors.T).masked_fill(hits, -torch.inf).logsumexp(1)
    rate = (hits.shape[1] - hits.sum(1)) / (n_items - 1)
    return -F.logsigmoid(own - others + rate.to(own.dtype).log()).mean()


@torch.no_grad()
def losses(hidden: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """[B]: -log softmax(scores)[target] of each row, without gradients."""
    return _log_sums(hidden, vectors) - (hidden * vectors[targets]).sum(1)


def _log_sums(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Each row's log sum exp over all items: [B]."""
    if _compiled(hidden, vectors):
        asked = products.scan(hidden, vectors, None, 0, log_sum=True)
        assert asked is not None and asked.log_sum is not None
        return asked.log_sum
    found = hidden.new_empty(hidden.shape[0])
    if vectors.shape[0] <= WHOLE_ROWS:
        for rows, scores in _row_blocks(hidden, vectors):
            found[rows] = log_sum_exp(scores)[:, 0]
    else:
        for rows in _slices(hidden.shape[0], _rows_of(hidden, vectors)):
            found[rows] = _log_total(hidden[rows], vectors)[:, 0]
    return found


def _compiled(hidden: Tensor, vectors: Tensor) -> bool:
    return vectors.shape[0] <= WHOLE_ROWS and products.takes(hidden, vectors)


class _CrossEntropy(torch.autograd.Function):
    """The gradient of a row's loss is softmax - onehot(target): one visit of a block gives loss and gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, padding: int) -> Tensor:
        found, *gradients = _losses_and_gradients(hidden, table, targets, weights, padding, ctx.needs_input_grad[:2])
        ctx.save_for_backward(*gradients)
        return (found * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        whole = grads[0].device.type == "cpu" and float(grads[0]) == 1  # nearly always; a table is large
        scaled = (None if g is None else g if whole else g * grads[0] for g in ctx.saved_tensors)
        return *scaled, None, None, None


def _losses_and_gradients(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, padding: int, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Each row's loss, and the gradients of their weighted sum at `hidden` and `table`, as far as they are needed."""
    vectors, (needs_hidden, needs_table) = table[padding:], needs
    grad_table = torch.zeros_like(table) if needs_table else None
    grad_vectors = None if grad_table is None else grad_table[padding:]
    if _compiled(hidden, vectors):
        if any(needs):
            total, grad_hidden = products.cross_entropy(hidden, vectors, targets, weights, grad_vectors, needs_hidden)
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
    """Rows of a block: few whole rows of a small catalogue, up to 256 rows of chunks of a large one."""
    if vectors.shape[0] > WHOLE_ROWS:
        return 256
    return max(8, BLOCK[hidden.device.type] // vectors.shape[0])


def _row_blocks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of whole rows of scores; a block is overwritten by the next."""
    size = _rows_of(hidden, vectors)
    buffer = hidden.new_empty(min(size, hidden.shape[0]), vectors.shape[0])
    for rows in _slices(hidden.shape[0], size):
        out = buffer[: rows.stop - rows.start]
        yield rows, torch.mm(hidden[rows].detach(), vectors.detach().T, out=out)


def _item_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """All rows' scores of a chunk of items after another; overwritten by the next."""
    size = vectors.shape[0]
    if size > WHOLE_ROWS:
        size = max(1024, BLOCK[hidden.device.type] // hidden.shape[0])
    buffer = hidden.new_empty(hidden.shape[0] * min(size, vectors.shape[0]))
    for items in _slices(vectors.shape[0], size):
        width = items.stop - items.start
        out = buffer[: hidden.shape[0] * width].view(hidden.shape[0], width)
        yield items, torch.mm(hidden.detach(), vectors[items].detach().T, out=out)


def _softmax_chunks(hidden: Tensor, vectors: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Chunks of scores and of their softmax over all items, and each row's log sum exp over all items: [B, 1].

    Both chunks may be overwritten. One product where rows are whole, two beyond.
    """
    if vectors.shape[0] <= WHOLE_ROWS:
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
