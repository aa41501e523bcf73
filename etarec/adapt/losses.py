"""Losses of one step of target `weights`, from hidden states that carry the gradient.

Sources: Tent (Wang et al., ICLR 2021) for the entropies; docs/method.md for shallow steps and the corrected likelihood.

Symbols: B samples, T transitions, D width, V items without the padding id, K of Top-K.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import likelihood, scoring
from etarec.config import AdaptConfig
from etarec.gate import effective_top_k, topk_entropy

GATHERING_COSTS = 16  # one gathered score costs about as much as this many scores of a product over all items


def of_passes(
    config: AdaptConfig,
    table: Tensor,
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor,
    repeated: npt.NDArray[np.bool_],
    threshold: float | None,
) -> Iterator[Tensor]:
    """Parts of the sum of weights . -log p(target) over transitions that passes over their sequences learn.

    Args:
        config: its `correction` and `admit` count.
        table: [1 + V, D], item vectors behind that of the padding id.
        hidden: [T, D], states before the transitions.
        targets: int[T], rows of the item vectors.
        weights: [T].
        repeated: bool[T], transitions that took a shallow step before; they leave the item vectors at the output alone.
        threshold: E0 by which the gate decided; None without one.
    """
    if not repeated.any():
        yield _likelihood(config, table, hidden, targets, weights, threshold)
        return
    for chosen, vectors in ((~repeated, table), (repeated, table.detach())):
        if chosen.any():
            part = torch.from_numpy(chosen).to(hidden.device)
            yield _likelihood(config, vectors, hidden[part], targets[part], weights[part], threshold)


def _likelihood(
    config: AdaptConfig, table: Tensor, hidden: Tensor, targets: Tensor, weights: Tensor, threshold: float | None
) -> Tensor:
    if config.correction == "none" or threshold is None:
        return likelihood.cross_entropy_sum(hidden, table, targets, weights, padding=1)
    below = config.admit == "confident"
    return likelihood.selected_cross_entropy(hidden, table, targets, weights, threshold, below=below, padding=1)


def of_shallow_steps(
    table: Tensor, hidden: Tensor, targets: Tensor, total: int, negatives: int | None, generator: np.random.Generator
) -> Tensor:
    """Sum of -log p(target) over transitions that shallow steps learn, divided by `total`.

    table: [1 + V, D], item vectors behind that of the padding id; hidden: [T, D]; targets: int[T], rows of the item
    vectors; negatives: items that `generator` draws to estimate the softmax, None for the softmax over all items.
    """
    if negatives is None:
        weights = hidden.new_full((len(targets),), 1 / total)
        return likelihood.cross_entropy_sum(hidden, table, targets, weights, padding=1)
    mean = likelihood.drawn_cross_entropy(hidden, table, targets, negatives, generator, padding=1)
    return mean * (len(targets) / total)


def topk_entropies(hidden: Tensor, vectors: Tensor, top_k: int | None) -> Tensor:
    """Entropies [B], in nats, of the softmax over the K largest scores. hidden: [B, D]; vectors: [V, D].

    If K is small, only K scores carry the gradient.
    """
    top_k = effective_top_k(top_k, vectors.shape[0])
    if top_k * GATHERING_COSTS >= vectors.shape[0]:
        return topk_entropy((hidden @ vectors.T).topk(top_k).values)
    with torch.no_grad():
        top_items = scoring.scan(hidden, vectors, None, top_k).top_items
    assert top_items is not None
    return topk_entropy((vectors[top_items] @ hidden[:, :, None])[:, :, 0])
