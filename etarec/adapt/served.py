"""The results of serving a batch that learning from it needs: hidden states, and the losses of served transitions.

Symbols: B samples of a batch, U and T transitions, D width, P width of a residual stream in widths D, N interactions.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec.adapt.transitions import Offer
from etarec.ragged import Int64s


class Served(NamedTuple):
    """The results of serving a batch of B samples.

    states: [B + U, D], hidden states of the samples, and before U further transitions; residual: [B + U, P D], what
    `SequenceModel.residual` gives there, where a shallow step will learn that far; further: the U transitions.
    """

    states: Tensor
    residual: Tensor | None
    size: int
    further: Offer

    @property
    def hidden(self) -> Tensor:
        """[B, D]"""
        return self.states[: self.size]

    def before(self, offer: Offer, own: Int64s, states: Tensor) -> Tensor:
        """Rows of `states` or `residual` before transitions: own targets int[B] of the batch, or further ones."""
        further = self.size + np.searchsorted(self.further.places, offer.places)
        index = np.where(offer.places == own[offer.owners], offer.owners, further)
        return states[torch.from_numpy(index).to(states.device)]


class ServedLosses:
    """The loss at which each transition was served, for a gate that looks at losses.

    A transition of the stream has the loss of its own sample. One from before the stream has no such loss: its loss is
    computed when the transition is first offered, and kept.
    """

    def __init__(self, n_interactions: int, dtype: torch.dtype):
        self._losses = torch.full((n_interactions,), torch.nan, dtype=dtype)

    def marks(self) -> npt.NDArray[np.float32]:
        """The losses of `Marks`, float32[N]."""
        return self._losses.numpy().astype(np.float32)

    def recall(self, losses: npt.NDArray[np.float32]) -> None:
        """Replace the losses of all interactions. losses: of `Marks`."""
        self._losses = torch.from_numpy(losses).to(self._losses.dtype)

    def missing(self, offer: Offer, own: Int64s) -> Offer:
        """Offered transitions without a loss, each once. own: int[B], the targets of the batch, which get theirs."""
        known = ~np.isnan(self._losses.numpy()[offer.places]) | np.isin(offer.places, own)
        places, first = np.unique(offer.places[~known], return_index=True)
        return Offer(offer.owners[~known][first], places)

    def record(self, places: Int64s, losses: Tensor) -> None:
        self._losses[torch.from_numpy(places)] = losses.to(self._losses)

    def of(self, offer: Offer) -> Tensor:
        """The loss of each transition: [T]."""
        return self._losses[torch.from_numpy(offer.places)]

    def means(self, offer: Offer, size: int) -> npt.NDArray[np.floating]:
        """[B]: the mean loss of the transitions that each sample of a batch of `size` offers; NaN if it offers none."""
        counts = np.bincount(offer.owners, minlength=size)
        sums = np.bincount(offer.owners, self._losses.numpy()[offer.places], minlength=size)
        with np.errstate(invalid="ignore"):
            return sums / counts
