"""Floating-point operations of passes and trials, by formula.

Symbols: D width, H heads, F head width, G hidden fast width (4F), M mini-batch, W width of SwiGLU, V items.
"""

import numpy as np

from etarec.config import AdaptConfig, ModelConfig
from tests.benchmarks import material

FORMULA = (
    "Floating-point operations are counted by formula, two per multiply-add of a needed matrix product and none for "
    "anything else: per token 2 (2 D^2 + D H + 5 H F G) for keys, values, inner gradients and updates, per output "
    "2 (2 D^2 + 3 D W + H (2 F G + 2 M (F + G))) for queries, SwiGLU and the inner products, 2 D V per row of scores; "
    "a backward pass counts twice its forward. Norms, activations, Top-K, softmax and Adam count nothing, though they "
    "take most of the time: memory and the vector units limit them."
)


def forward_operations(config: ModelConfig, tokens: float, outputs: float) -> float:
    """One forward pass of a TTT-MLP model over `tokens` tokens, with `outputs` outputs wanted; see FORMULA."""
    D, H, M = config.width, config.heads, config.mini_batch
    F = D // H
    G = 4 * F
    token = 2 * D**2 + D * H + 5 * H * F * G
    output = 2 * D**2 + 3 * D * config.mlp_width + H * (2 * F * G + 2 * M * (F + G))
    return 2 * config.blocks * (token * tokens + output * outputs)


def trial_operations(subject: material.Subject, config: AdaptConfig, admitted: np.ndarray) -> float:
    """A trial that serves each sample by itself; target `state` scores a pass without inner loop, then one with it."""
    starts, ends = subject.encoder.ranges(subject.stream.users, subject.stream.positions)
    model, row = subject.checkpoint.model, 2 * subject.checkpoint.model.width * (subject.encoder.data.n_items - 1)
    lengths = ends - starts
    served = forward_operations(model, lengths.sum(), len(lengths)) + row * len(lengths)
    if config.target == "none":
        return float(served)
    if config.target == "state":
        return float(served + row * admitted.sum())
    learned = lengths - (config.feedback == "next_request")
    adapted = forward_operations(model, learned[admitted].sum(), admitted.sum()) + row * admitted.sum()
    scored = row if config.shallow_negatives is None else 2 * model.width * config.shallow_negatives
    skipped = 0 if config.filtered == "nothing" else scored * (~admitted).sum()
    return float(served + 3 * (adapted + skipped))
