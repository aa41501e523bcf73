"""(a) A training epoch against the literal baseline."""

import math

import numpy as np
import torch

from etarec import fitting
from etarec.config import ModelConfig, TrainConfig
from etarec.data import Interactions, training_windows
from etarec.models import SequenceModel, build
from tests.benchmarks import literal, material, timing
from tests.benchmarks.frame import Settings, Table

USERS, REPEATS = 2000, 3


def training(settings: Settings) -> Table:
    whole = material.interactions(settings)
    data = material.part_of(whole, 60 if settings.quick else USERS)
    config = TrainConfig(dropout=0.0)
    losses: dict[str, float] = {}

    def ours() -> None:
        model = fresh(data)
        losses["ours"] = material.epoch(model, data, config, torch.optim.Adam(model.parameters(), 1e-3, fused=True))

    def plain() -> None:
        weights = literal_weights(fresh(data))
        losses["literal"] = literal_epoch(weights, data, config, torch.optim.Adam(weights.values(), 1e-3))

    ours()  # compiles the C code, once on a machine
    slow, fast = timing.interleaved([plain, ours], 1 if settings.quick else REPEATS)
    same = math.isclose(losses["ours"], losses["literal"], rel_tol=1e-4)
    assert same, f"the epochs' losses differ: {losses}"
    samples, share = int(data.train_end.sum()), data.train_end.sum() / whole.train_end.sum()
    return Table(
        "(a) Training epoch against the literal baseline",
        f"The literal code turns every prefix into a sequence of its own, padded to {data.max_length}, and leaves the "
        f"gradients to autograd. Both train on the same {samples:,} samples ({share:.1%} of the split: "
        f"{data.n_users:,} users chosen at random, all {data.n_items - 1:,} items) in the same optimizer steps of "
        f"about {config.batch_size} samples, without dropout; their mean losses are equal ({losses['ours']:.5f} and "
        f"{losses['literal']:.5f}). "
        f"CPU seconds, {len(fast)} pairs. Target: 12 times.",
        ["", "literal, CPU s", "ours, CPU s", "literal / ours"],
        [["training epoch", timing.cpu(slow), timing.cpu(fast), str(timing.ratio(slow, fast))]],
    )


def fresh(data: Interactions) -> SequenceModel:
    torch.manual_seed(0)
    return build(ModelConfig(), data.n_items)


def literal_weights(model: SequenceModel) -> literal.Weights:
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in model.state_dict().items()}


def literal_steps(data: Interactions, config: TrainConfig) -> list[list[tuple[int, int]]]:
    """The prefixes [start, end) of each optimizer step of an epoch, in the steps of the product's training."""
    windows = training_windows(data, min(config.window_stride, data.max_length))
    starts, lengths, first_loss = windows
    parts = fitting._steps(lengths - first_loss, config.batch_size, np.random.default_rng(config.seed))
    return [
        [(starts[w], starts[w] + end) for w in part for end in range(first_loss[w] + 1, lengths[w] + 1)]
        for part in parts
    ]


def literal_epoch(
    weights: literal.Weights,
    data: Interactions,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    model: ModelConfig | None = None,
) -> float:
    steps = literal_steps(data, config)
    model = model or ModelConfig()
    losses = [literal.train_step(weights, model, literal.prefixes(data, ranges), optimizer) for ranges in steps]
    return float(np.average(losses, weights=[len(ranges) for ranges in steps]))
