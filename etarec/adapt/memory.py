"""The memory of an adapter from batch to batch, as plain tensors and JSON values that can be kept and restored.

Symbols: N interactions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Snapshot(NamedTuple):
    """An adapter between two batches. tensors: copies, by name; values: plain data that JSON can hold."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a dot, without that beginning."""
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


class Marks(NamedTuple):
    """The marks that an adapter keeps for each interaction of its stream.

    bits: uint8[N]: whether its transition was learned (1), took a shallow step (2), was offered (4); losses:
    float32[N], the loss at which it was served, NaN if unknown.
    """

    bits: npt.NDArray[np.uint8]
    losses: npt.NDArray[np.float32]

    @classmethod
    def blank(cls, count: int) -> "Marks":
        """The marks of interactions that no adapter has met."""
        return cls(np.zeros(count, np.uint8), np.full(count, np.nan, np.float32))


def named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors under the names that `Snapshot.part` takes apart."""
    return {f"{part}.{name}": tensor.detach().clone() for name, tensor in tensors.items()}


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by `PARAMETER.NAME`; a parameter without a step so far has none."""
    state = optimizer.state_dict()["state"]
    return {f"{n}.{name}": value for n, own in state.items() for name, value in own.items() if value is not None}


def restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give a fresh optimizer the tensors that `moments` took from another one of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """A generator's place in its sequence; `generator.bit_generator.state = ...` goes back to it."""
    return dict(generator.bit_generator.state)
