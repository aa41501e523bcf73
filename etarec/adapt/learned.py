"""Counts of what an adapter learned along a stream, and the arithmetic of learning by formula.

Symbols: P parameters without the item vectors, D width, V items.
"""

from dataclasses import dataclass

from etarec.config import AdaptConfig
from etarec.models import SequenceModel

SHALLOW_PRODUCTS = {"nothing": 0, "output": 2, "residual": 3, "mlp": 3}  # products over all items of a shallow step


@dataclass
class Learned:
    """Counts along a stream, and the same counts of an adapter that takes every sample that has something to teach.

    passes: backward passes over a sample's sequence; tokens: items of these sequences; outputs: transitions (or, with
    `objective: entropy`, samples) whose loss the passes learned; shallow: transitions learned by a shallow step.
    """

    passes: int = 0
    tokens: int = 0
    outputs: int = 0
    shallow: int = 0
    every_tokens: int = 0
    every_outputs: int = 0

    def costs(self, model: SequenceModel, config: AdaptConfig, samples: int) -> dict[str, float]:
        """The result columns COSTS of `etarec.metrics`, for a stream of `samples`.

        Arithmetic counts the multiply-adds of matrix products: a pass costs 3 (P tokens + D V outputs), forward and
        backward; a shallow step costs 2 D V for scores and gradients of the item vectors, and D V more if its gradient
        also goes back to the last item, with the number of drawn items in the place of V where items are drawn. Norms,
        softmax and the optimizer are not counted.
        """
        items, width = model.item_vectors.shape
        scored = min(config.shallow_negatives or items, items)
        parameters = sum(weight.numel() for name, weight in model.named_parameters() if name != "items.weight")
        passes = 3 * (parameters * self.tokens + items * width * self.outputs)
        shallow = SHALLOW_PRODUCTS[config.filtered] * scored * width * self.shallow
        every = 3 * (parameters * self.every_tokens + items * width * self.every_outputs)
        return {
            "shallow_rate": self.shallow / samples,
            "transitions_per_pass": self.outputs / self.passes if self.passes else 0.0,
            "arithmetic": (passes + shallow) / every if every else 0.0,
        }
