"""Dropout in the passes that an adapter learns by; the passes that serve have none."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


class LearningDropout:
    """Turns the dropout layers of a model on for a while, with random numbers of this measurement's own.

    rate: share of values to drop. generator: draws a seed for each block, so that its state is all that is kept.
    """

    def __init__(self, model: nn.Module, rate: float, generator: np.random.Generator):
        self.rate, self.generator = rate, generator
        self._layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]

    @contextmanager
    def on(self) -> Iterator[None]:
        """Drop values during the block, as in training. Prefixes of a pass share a mask."""
        if not self.rate:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(int(self.generator.integers(2**63)))
            for layer in self._layers:
                layer.p, layer.training = self.rate, True
            try:
                yield
            finally:
                for layer in self._layers:
                    layer.training = False
