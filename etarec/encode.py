"""Samples -> hidden states: prefixes that start at the same item share one causal pass, short and long ones apart.

A prefix is a half-open range [start, end) of the flat items array of `Interactions`; its hidden state is the model's
output at its last item.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec.data import Interactions
from etarec.models import SequenceModel

Int64s = npt.NDArray[np.int64]

LENGTH_STEP = 8  # sequences whose lengths lie in the same step run together, padded to the longest
TOKENS_PER_PASS = {"cpu": 2**10, "cuda": 2**18}  # activations of a pass stay near the cache


class Encoder:
    """Encodes prefixes of one data set on one device."""

    def __init__(self, data: Interactions, device: torch.device):
        self.data, self.device = data, device
        self.items = torch.tensor(data.items, dtype=torch.long, device=device)

    def ranges(self, users: npt.NDArray[np.int32], positions: npt.NDArray[np.int32]) -> tuple[Int64s, Int64s]:
        """[start, end) of each sample's input: its user's last `max_length` items before the target."""
        first = self.data.offsets[users]
        end = first + positions
        return np.maximum(first, end - self.data.max_length), end

    def hidden(
        self,
        model: SequenceModel,
        starts: Int64s,
        ends: Int64s,
        rate_scale: Tensor | None = None,
        inner_loop: bool = True,
    ) -> Tensor:
        """Hidden state of each prefix: [B, D]. rate_scale: [B], see `TTTLayer.forward`; with it nothing is shared."""
        if rate_scale is None:
            keys, row_of = np.unique(starts, return_inverse=True)
        else:
            keys, row_of = starts, np.arange(len(starts))
        lengths, shortest = np.zeros(len(keys), np.int64), np.full(len(keys), np.iinfo(np.int64).max)
        np.maximum.at(lengths, row_of, ends - starts)
        np.minimum.at(shortest, row_of, ends - starts)
        states, place = [], np.empty(len(keys), np.int64)  # place: of a row's first state among all states
        total = 0
        for chosen in self.passes(lengths):
            since = int(shortest[chosen].min()) - 1
            width = int(lengths[chosen[-1]]) - since
            scale = None if rate_scale is None else rate_scale[torch.from_numpy(chosen).to(self.device)]
            out = model(self.padded(keys[chosen], lengths[chosen]), scale, inner_loop, since)
            place[chosen] = total + np.arange(len(chosen)) * width - since
            total += len(chosen) * width
            states.append(out.flatten(0, 1))
        wanted = place[row_of] + (ends - starts - 1)
        return torch.cat(states)[torch.from_numpy(wanted).to(self.device)]

    def padded(self, starts: Int64s, lengths: npt.NDArray[np.integer]) -> Tensor:
        """int[N, longest]: the items of each range, padded with 0 on the right."""
        begin = torch.from_numpy(starts).to(self.device)[:, None]
        length = torch.from_numpy(lengths).to(self.device)[:, None]
        place = torch.arange(int(lengths.max()), device=self.device)
        inside = place < length
        return self.items[torch.where(inside, begin + place, 0)] * inside

    def passes(self, lengths: npt.NDArray[np.integer], tokens: int = 0) -> Iterator[Int64s]:
        """Cuts sequences into passes of the model: indices of sequences of similar length, the longest last.

        tokens: a pass may hold so many, if more than TOKENS_PER_PASS.
        """
        limit = max(tokens, TOKENS_PER_PASS[self.device.type])
        order = np.argsort(lengths, kind="stable")
        steps = (lengths[order] - 1) // LENGTH_STEP
        bounds = np.concatenate(([0], np.flatnonzero(np.diff(steps)) + 1, [len(steps)]))
        for first, last in pairwise(bounds):
            size = max(1, limit // int(lengths[order[last - 1]]))
            yield from (order[start : min(start + size, last)] for start in range(first, last, size))
