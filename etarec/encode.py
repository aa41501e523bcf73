"""Samples -> hidden states: prefixes that start at the same item share one causal pass.

Where the model takes sequences without padding they run end to end, elsewhere those of similar lengths together.

A prefix is a half-open range [start, end) of the flat items array of `Interactions`; its hidden state is the model's
output at its last item.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec.data import Interactions
from etarec.models import SequenceModel
from etarec.ragged import Int64s, Ragged

Integers = npt.NDArray[np.integer]

TOKENS_END_TO_END = 2**12  # of a pass without padding: activations stay near the cache
TOKENS_PER_PASS = {"cpu": 2**11, "cuda": 2**18}  # activations of a pass stay near the cache
IDLE_ROWS = {"cpu": 16, "cuda": 2**10}  # what a pass costs beside its tokens, in sequences of its length
IDLE_ROWS_OF_LAST = {"cpu": 48, "cuda": 2**12}  # the same where inner_loop_dual.py does not compute most of the padding


class Pass(NamedTuple):
    """One run of the model: hidden states [N, width, D] of N sequences, each from its own position `since` on."""

    rows: Int64s
    since: Integers
    hidden: Tensor


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
        """Hidden state of each prefix: [B, D]. rate_scale: [B], see `TTTLayer.forward`; with it nothing is shared, nor
        by a model that is not causal."""
        if rate_scale is None and model.causal:
            keys, row_of = np.unique(starts, return_inverse=True)
        else:
            keys, row_of = starts, np.arange(len(starts))
        last = ends - starts - 1
        if len(keys) and model.takes_ragged():
            return self._end_to_end(model, keys, row_of, last, rate_scale, inner_loop)
        lengths, shortest = np.zeros(len(keys), np.int64), np.full(len(keys), np.iinfo(np.int64).max)
        np.maximum.at(lengths, row_of, last + 1)
        np.minimum.at(shortest, row_of, last + 1)
        states, place = [], np.empty(len(keys), np.int64)  # place: of a row's first state among all states
        total = 0
        for run in self.passes(model, keys, lengths, shortest, rate_scale, inner_loop):
            count, width, _ = run.hidden.shape
            place[run.rows] = total + np.arange(count) * width - run.since
            total += count * width
            states.append(run.hidden.flatten(0, 1))
        return torch.cat(states)[torch.from_numpy(place[row_of] + last).to(self.device)]

    def _end_to_end(
        self,
        model: SequenceModel,
        starts: Int64s,
        row_of: Int64s,
        last: Int64s,
        rate_scale: Tensor | None,
        inner_loop: bool,
    ) -> Tensor:
        """States [B, D] at position `last` of sequence `row_of`. starts: int[N]; rate_scale: [N]."""
        longest = int(last.max()) + 1
        asked, place = np.unique(row_of * longest + last, return_inverse=True)
        every = Ragged.of(asked // longest, asked % longest)
        owners = every.owners
        tokens = np.arange(len(owners)) + (starts - every.starts)[owners]
        x = model.embed(self.items[torch.from_numpy(tokens)])
        scale = None if rate_scale is None else rate_scale[torch.from_numpy(owners)]
        states = []
        for inside, run in every.cut(TOKENS_END_TO_END):
            states.append(model.encode_ragged(run, x[inside], None if scale is None else scale[inside], inner_loop))
        return torch.cat(states)[torch.from_numpy(place)]

    def passes(
        self,
        model: SequenceModel,
        starts: Int64s,
        lengths: Integers,
        shortest: Integers,
        rate_scale: Tensor | None = None,
        inner_loop: bool = True,
        tokens: int = 0,
    ) -> Iterator[Pass]:
        """Runs the model over the ranges [start, start + length), of each of which the states from `shortest` on count.

        tokens: a pass may hold so many, if more than TOKENS_PER_PASS. All items are embedded at once, because the
        embedding's gradient costs as much for a few items as for all.
        """
        only_last = bool((lengths == shortest).all())
        limit = max(tokens, TOKENS_PER_PASS[self.device.type])
        idle_rows = (IDLE_ROWS_OF_LAST if only_last else IDLE_ROWS)[self.device.type]
        groups = [rows[::-1] for rows in group_by_length(lengths, limit, idle_rows)]
        padded = [self.padded(starts[rows], lengths[rows]) for rows in groups]
        embedded = model.embed(torch.cat([items.flatten() for items in padded]))
        parts = embedded.split([items.numel() for items in padded])
        for rows, items, part in zip(groups, padded, parts, strict=True):
            scale = None if rate_scale is None else rate_scale[torch.from_numpy(rows.copy()).to(self.device)]
            x, ends = part.view(*items.shape, -1), torch.from_numpy(lengths[rows]) if only_last else None
            since = int(shortest[rows].min()) - 1
            hidden = model.encode(x, scale, inner_loop, 0 if only_last else since, ends)
            yield Pass(rows, lengths[rows] - 1 if only_last else np.full(len(rows), since), hidden)

    def padded(self, starts: Int64s, lengths: Integers) -> Tensor:
        """int[N, longest]: the items of each range, padded with 0 on the right."""
        begin = torch.from_numpy(starts).to(self.device)[:, None]
        length = torch.from_numpy(lengths).to(self.device)[:, None]
        place = torch.arange(int(lengths.max()), device=self.device)
        inside = place < length
        return self.items[torch.where(inside, begin + place, 0)] * inside


def group_by_length(lengths: Integers, limit: int, idle_rows: int) -> list[Int64s]:
    """Indices of sequences to run together, padded to the longest of a group, the shortest groups first.

    The cuts between lengths are those at which tokens, padded ones included, and the passes' own costs add up to the
    least. Those grow with the length too, by steps of the inner loop; a pass is charged for `idle_rows` sequences more
    than it has. A group of more than `limit` tokens is cut once more.
    """
    order = np.argsort(lengths, kind="stable")
    distinct, counts = np.unique(lengths, return_counts=True)
    behind = np.concatenate(([0], np.cumsum(counts)))  # sequences shorter than a distinct length, and all
    cost, first = np.zeros(len(distinct) + 1), np.zeros(len(distinct), np.int64)
    for last, length in enumerate(distinct):  # the cheapest way to end a group here, of all places where it may begin
        tokens = (behind[last + 1] - behind[: last + 1]) * length
        ways = cost[: last + 1] + tokens + idle_rows * length * np.ceil(tokens / limit)
        first[last] = ways.argmin()
        cost[last + 1] = ways[first[last]]
    cuts, last = [len(lengths)], len(distinct)
    while last:
        last = int(first[last - 1])
        cuts.append(int(behind[last]))
    groups = []
    for begin, end in pairwise(cuts[::-1]):
        size = max(1, limit // int(lengths[order[end - 1]]))
        groups += [order[start : min(start + size, end)] for start in range(begin, end, size)]
    return groups
