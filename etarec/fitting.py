"""Fitting of a model's weights: epochs over the training samples until validation stops improving.

A loss at every position of a window is, for a causal model, the loss over all its prefixes, at a fraction of the cost.
A model that is not causal learns to fill in masked items, as in BERT4Rec.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from etarec import likelihood
from etarec.clock import Stopwatch
from etarec.config import AdaptConfig, TrainConfig, UserError
from etarec.data import Interactions, stream, training_windows
from etarec.encode import IDLE_ROWS, Encoder, group_by_length
from etarec.evaluate import measure
from etarec.metrics import EARLY_STOPPING, quality
from etarec.models import SequenceModel
from etarec.ttt import InnerOptions

TOKENS_PER_PASS = 2**13  # training uses all cores, and several threads need larger passes than one does


@dataclass(frozen=True)
class Epoch:
    """The outcome of one pass over the training samples."""

    number: int  # from 1
    loss: float  # mean over the training samples, in nats
    valid: dict[str, float]  # quality metrics on the validation split
    improved: bool  # whether NDCG@10 on validation is the best so far
    seconds: float


def fit(model: SequenceModel, data: Interactions, config: TrainConfig, at_least: int = 0) -> Iterator[Epoch]:
    """Train the model in place and yield after every epoch, until `patience` epochs bring no better validation NDCG@10.

    While an epoch with `improved` is yielded, the model holds the best weights so far; the next epoch overwrites them.
    at_least: epochs before which `patience` does not end the training.
    Raises UserError if the loss is not finite.
    """
    encoder = Encoder(data, next(model.parameters()).device)
    validation = stream(data, "valid", "user", 0)
    optimizers = _optimizers(model, config)
    rng = np.random.default_rng(config.seed)
    best, waited = -1.0, 0
    for number in range(1, config.epochs + 1):
        stopwatch = Stopwatch()
        loss = _epoch(model, encoder, config, optimizers, rng)
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged in epoch {number}: its loss is {loss}; expected a train.learning_rate "
                f"below {config.learning_rate}"
            )
        valid = quality(measure(model, encoder, validation, AdaptConfig(target="none"), seed=0).ranks)
        improved = valid[EARLY_STOPPING] > best
        best, waited = (valid[EARLY_STOPPING], 0) if improved else (best, waited + 1)
        yield Epoch(number, loss, valid, improved, stopwatch.seconds)
        if waited >= config.patience and number >= at_least:
            return


def _optimizers(model: SequenceModel, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam for all weights; with `negatives`, SparseAdam for the item vectors.

    SparseAdam updates only the vectors that a step used, and their moments. For 1,000,000 items of width 64, dense Adam
    would read and write gigabytes in every step.
    """
    rate, weights = config.learning_rate, dict(model.named_parameters())
    if config.negatives is None:
        return [torch.optim.Adam(weights.values(), lr=rate, fused=True)]
    items = weights.pop("items.weight")
    return [torch.optim.SparseAdam([items], lr=rate), torch.optim.Adam(weights.values(), lr=rate, fused=True)]


def _epoch(
    model: SequenceModel,
    encoder: Encoder,
    config: TrainConfig,
    optimizers: list[torch.optim.Optimizer],
    rng: np.random.Generator,
) -> float:
    """Train for one epoch and return the mean loss over its samples."""
    model.train()
    starts, lengths, first_loss = training_windows(encoder.data, min(config.window_stride, encoder.data.max_length))
    losses, count = [], 0
    for chosen in _steps(lengths - first_loss, config.batch_size, rng):
        windows = (starts[chosen], lengths[chosen], first_loss[chosen])
        hidden, targets = _hidden_states(model, encoder, windows, config, rng)
        loss = _loss(model, hidden, targets, config.negatives, rng)
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.detach() * len(targets))
        count += len(targets)
    return float(torch.stack(losses).sum()) / count


def _loss(
    model: SequenceModel, hidden: torch.Tensor, targets: torch.Tensor, negatives: int | None, rng: np.random.Generator
) -> torch.Tensor:
    """The mean cross-entropy over all items or, with `negatives`, its estimate from that many items drawn now."""
    if negatives is None:
        return likelihood.cross_entropy(hidden, model.items.weight, targets, padding=1)
    return likelihood.drawn_cross_entropy(hidden, model.items.weight, targets, negatives, rng, padding=1)


def _steps(samples: npt.NDArray[np.int32], size: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """All windows' indices in random order, cut into steps of about `size` samples; `samples` counts each window's."""
    order = rng.permutation(len(samples))
    served = np.cumsum(samples[order])
    cuts = np.searchsorted(served, np.arange(size, served[-1], size))
    return [part for part in np.split(order, np.unique(cuts)) if len(part)]


def _hidden_states(
    model: SequenceModel,
    encoder: Encoder,
    windows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]],
    config: TrainConfig,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, D] and targets int [T] at the T positions with a loss, in windows of `training_windows`."""
    starts, lengths, first_loss = windows
    kept = torch.from_numpy((rng.random(len(starts)) >= config.skip_rate).astype(np.float32))
    if not model.causal:
        return _masked(model, encoder, starts, lengths + 1, config, rng)
    scale = kept.to(encoder.device) if config.skip_rate else None
    return _windows(model, encoder, starts, lengths, first_loss, scale)


def _windows(
    model: SequenceModel,
    encoder: Encoder,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    first_loss: npt.NDArray[np.int32],
    scale: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, D] and targets int [T] at the windows' T positions that carry a loss. Target: item code - 1."""
    hidden, targets = [], []
    for rows, since, states in encoder.passes(
        model, starts, lengths, first_loss + 1, InnerOptions(scale), TOKENS_PER_PASS
    ):
        place = since[:, None] + np.arange(states.shape[1])
        counted = (place >= first_loss[rows, None]) & (place < lengths[rows, None])
        following = torch.from_numpy((starts[rows, None] + place + 1)[counted]).to(encoder.device)
        hidden.append(states[torch.from_numpy(counted).to(encoder.device)])
        targets.append(encoder.items[following] - 1)
    return torch.cat(hidden), torch.cat(targets)


def _masked(
    model: SequenceModel,
    encoder: Encoder,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    config: TrainConfig,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, D] and targets int [T] at the T masked positions. Target: item code - 1.

    With the chance `mask_last` a sequence is cut after a random item and only this item is masked, as in serving. In
    the other sequences each item is masked with the chance `mask_rate`, and at least one item is.
    """
    cut = rng.random(len(lengths)) < config.mask_last
    lengths = np.where(cut, rng.integers(2, lengths + 1), lengths)
    hidden, targets = [], []
    for rows in group_by_length(lengths, TOKENS_PER_PASS, IDLE_ROWS[encoder.device.type]):
        items, place = encoder.padded(starts[rows], lengths[rows]), np.arange(lengths[rows].max())
        masked = (rng.random((len(rows), len(place))) < config.mask_rate) & ~cut[rows, None]
        masked[np.arange(len(rows)), lengths[rows] - 1] |= cut[rows] | ~(masked & (place < lengths[rows, None])).any(1)
        counted = torch.from_numpy(masked & (place < lengths[rows, None])).to(encoder.device)
        states = model.fill_in(model.embed(items), counted, torch.from_numpy(lengths[rows]).to(encoder.device))
        hidden.append(states[counted])
        targets.append(items[counted] - 1)
    return torch.cat(hidden), torch.cat(targets)
