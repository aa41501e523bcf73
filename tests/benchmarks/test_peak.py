"""The formula by which operations are counted."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from etarec.config import ModelConfig
from etarec.models import build
from tests.benchmarks import literal, training
from tests.benchmarks.operations import forward_operations


def test_operations_are_those_of_the_matrix_products() -> None:
    """torch counts the products of the formula in the literal forward, and two more per mini-batch that sum biases."""
    config = ModelConfig(width=32, heads=2, mini_batch=4, mlp_width=24)
    H, M, F, G = 2, 4, 16, 64
    weights = training.literal_weights(build(config, 30))
    items, lengths = torch.randint(1, 30, (3, 12)), torch.full((3,), 12)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        literal.hidden(weights, config, items, lengths)
    tokens = items.numel()
    assert counter.get_total_flops() == forward_operations(config, tokens, tokens) + 2 * tokens * H * M * (F + G)
