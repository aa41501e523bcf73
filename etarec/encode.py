"""Samples -> hidden states. Prefixes that start at the same item share one causal pass.

A prefix is a half-open range [start, end) of the flat items array of `Interactions`; its hidden state is the model's
output at its last item. Sequences run end to end where the model takes them without padding; elsewhere those of similar
lengths run together.

Symbols: B prefixes, N sequences, D width.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec.data import Interactions
from etarec.models import InnerLoopModel, SequenceModel
from etarec.ragged import Int64s, OutputPositions, Ragged
from etarec.ttt import INNER_LOOP, InnerOptions

Integers = npt.NDArray[np.integer]

TOKENS_END_TO_END = 2**12  # of a pass without padding: activations stay near the cache
TOKENS_PER_PASS = {"cpu": 2**11, "cuda": 2**18}  # activations of a pass stay near the cache
IDLE_ROWS = {"cpu": 16, "cuda": 2**10}  # fixed cost of a pass, in sequences of its length
IDLE_ROWS_OF_LAST = {"cpu": 48, "cuda": 2**12}  # the same for last positions only, where most padding is skipped


class Pass(NamedTuple):
    """One run of the model: hidden states [N, width, D] of sequences `rows`, each from its own position `since` on."""

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
        inner: InnerOptions = INNER_LOOP,
        *,
        residual: bool = False,
    ) -> Tensor:
        """Hidden state of each prefix: [B, D]. inner: with a `rate_scale`, of [B], no passes are shared; nor are those
        of a model that is not causal. residual: give what `SequenceModel.residual` does instead: [B, P D]."""
        if inner.rate_scale is None and model.causal:
            keys, row_of = np.unique(starts, return_inverse=True)
        else:
            keys, row_of = starts, np.arange(len(starts))
        last = ends - starts - 1
        if len(keys) and isinstance(model, InnerLoopModel) and model.takes_ragged():
            return self._end_to_end(model, keys, row_of, last, inner, residual)
        return self._in_groups(model, keys, row_of, last, inner, residual)

    def _in_groups(
        self,
        model: SequenceModel,
        starts: Int64s,
        row_of: Int64s,
        last: Int64s,
        inner: InnerOptions,
        residual: bool,
    ) -> Tensor:
        """States [B, D] at position `last` of sequence `row_of`, by `passes`. starts: int[N]."""
        lengths, shortest = np.zeros(len(starts), np.int64), np.full(len(starts), np.iinfo(np.int64).max)
        np.maximum.at(lengths, row_of, last + 1)
        np.minimum.at(shortest, row_of, last + 1)
        states, place = [], np.empty(len(starts), np.int64)  # place: of each row's first state among all states
        total = 0
        for run in self.passes(model, starts, lengths, shortest, inner, residual=residual):
            count, width, _ = run.hidden.shape
            place[run.rows] = total + np.arange(count) * width - run.since
            total += count * width
            states.append(run.hidden.flatten(0, 1))
        return torch.cat(states)[torch.from_numpy(place[row_of] + last).to(self.device)]

    def _end_to_end(
        self,
        model: InnerLoopModel,
        starts: Int64s,
        row_of: Int64s,
        last: Int64s,
        inner: InnerOptions,
        residual: bool,
    ) -> Tensor:
        """States [B, D] at position `last` of sequence `row_of`, without padding. starts: int[N]."""
        longest = int(last.max()) + 1
        wanted, place = np.unique(row_of * longest + last, return_inverse=True)
        every = Ragged.of(wanted // longest, wanted % longest)
        owners = every.owners
        tokens = np.arange(len(owners)) + (starts - every.starts)[owners]
        x, own = model.embed(self.items[torch.from_numpy(tokens)]), inner.of(torch.from_numpy(owners))
        encode = model.residual_ragged if residual else model.encode_ragged
        states = [encode(run, x[inside], own.of(inside)) for inside, run in every.cut(TOKENS_END_TO_END)]
        return torch.cat(states)[torch.from_numpy(place)]

    def passes(
        self,
        model: SequenceModel,
        starts: Int64s,
        lengths: Integers,
        shortest: Integers,
        inner: InnerOptions = INNER_LOOP,
        tokens: int = 0,
        *,
        residual: bool = False,
    ) -> Iterator[Pass]:
        """Runs the model over the ranges [start, start + length); of each the states from `shortest` on are wanted.

        tokens: limit of a pass, if larger than TOKENS_PER_PASS. All items are embedded at once, because the gradient
        of the embedding costs as much for a few items as for all.
        """
        only_last = bool((lengths == shortest).all())
        limit = max(tokens, TOKENS_PER_PASS[self.device.type])
        idle_rows = (IDLE_ROWS_OF_LAST if only_last else IDLE_ROWS)[self.device.type]
        groups = [rows[::-1] for rows in group_by_length(lengths, limit, idle_rows)]
        padded = [self.padded(starts[rows], lengths[rows]) for rows in groups]
        embedded = model.embed(torch.cat([items.flatten() for items in padded]))
        parts = embedded.split([items.numel() for items in padded])
        for rows, items, part in zip(groups, padded, parts, strict=True):
            x, own = part.view(*items.shape, -1), inner.of(torch.from_numpy(rows.copy()).to(self.device))
            if only_last:
                since, outputs = lengths[rows] - 1, OutputPositions(lengths=torch.from_numpy(lengths[rows]))
            else:
                first = int(shortest[rows].min()) - 1
                since, outputs = np.full(len(rows), first), OutputPositions(first)
            yield Pass(rows, since, _encode(model, x, outputs, own, residual))

    def padded(self, starts: Int64s, lengths: Integers) -> Tensor:
        """int[N, longest]: the items of each range, padded with 0 on the right."""
        begin = torch.from_numpy(starts).to(self.device)[:, None]
        length = torch.from_numpy(lengths).to(self.device)[:, None]
        place = torch.arange(int(lengths.max()), device=self.device)
        inside = place < length
        return self.items[torch.where(inside, begin + place, 0)] * inside


def _encode(model: SequenceModel, x: Tensor, outputs: OutputPositions, inner: InnerOptions, residual: bool) -> Tensor:
    if isinstance(model, InnerLoopModel):
        return model.residual(x, outputs, inner) if residual else model.encode(x, outputs, inner)
    return model.residual(x, outputs) if residual else model.encode(x, outputs)


def group_by_length(lengths: Integers, limit: int, idle_rows: int) -> list[Int64s]:
    """Indices of sequences to run together, padded to the longest of their group; groups of shorter ones come first.

    The cuts between lengths minimise the sum of tokens, with padding, and of the fixed costs of the passes. A fixed
    cost grows with the length too, by the steps of the inner loop: it counts as `idle_rows` more sequences of that
    length. A group of more than `limit` tokens is cut again.
    """
    order = np.argsort(lengths, kind="stable")
    distinct, counts = np.unique(lengths, return_counts=True)
    behind = np.concatenate(([0], np.cumsum(counts)))  # number of sequences shorter than each length, then of all
    cost, first = np.zeros(len(distinct) + 1), np.zeros(len(distinct), np.int64)
    for last, length in enumerate(distinct):  # cheapest start of a group that ends here
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
