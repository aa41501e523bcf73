"""Batches of sequences: the positions whose states are wanted, and sequences without padding.

Symbols: N sequences, L positions, T tokens, Q queries: the tokens whose states are wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OutputPositions:
    """The wanted positions of padded sequences: all from `since` on, or, with `lengths`, each sequence's own last one.

    lengths: int[N] on the CPU, descending; nothing behind a sequence's end is computed.
    """

    since: int = 0
    lengths: Tensor | None = None

    def count(self, L: int) -> int:
        """The number of wanted positions of each sequence of L."""
        return L - self.since if self.lengths is None else 1

    def of(self, x: Tensor) -> Tensor:
        """The wanted positions of x: [N, L, D] -> [N, count, D]."""
        if self.lengths is None:
            return x[:, self.since :]
        return x[torch.arange(x.shape[0], device=x.device), self.lengths.to(x.device) - 1][:, None]


EVERY_POSITION = OutputPositions()


class Ragged(NamedTuple):
    """Sequences of tokens in one array, usually end to end.

    starts, lengths: int64[N], the first token of each sequence and the number of its tokens, at least one.
    queries: int64[N + 1], the first query of each sequence, and the number of all queries.
    positions: int64[Q], the position of each query in its sequence, strictly ascending within a sequence.
    The C code relies on all of this unchecked.
    """

    starts: Int64s
    lengths: Int64s
    queries: Int64s
    positions: Int64s

    @classmethod
    def of(cls, rows: Int64s, positions: Int64s) -> "Ragged":
        """Sequences end to end, each up to its last query: queries at `positions` of sequences `rows`, which ascend
        without a gap."""
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        queries = np.append(firsts, len(rows))
        lengths = positions[queries[1:] - 1] + 1
        return cls(np.cumsum(lengths) - lengths, lengths, queries, positions)

    @classmethod
    def padded(cls, N: int, L: int, outputs: OutputPositions) -> "Ragged":
        """Sequences in rows of L tokens, with the wanted positions as queries."""
        count = outputs.count(L)
        if outputs.lengths is None:
            lengths, positions = np.full(N, L), np.tile(np.arange(L - count, L), N)
        else:
            lengths = outputs.lengths.numpy().astype(np.int64)
            positions = lengths - 1
        return cls(np.arange(N) * L, lengths, np.arange(N + 1) * count, positions)

    def querying_all(self) -> "Ragged":
        """The same sequences with every token as a query."""
        behind = np.cumsum(self.lengths)
        queries = np.concatenate(([0], behind))
        return self._replace(queries=queries, positions=np.arange(behind[-1]) - np.repeat(queries[:-1], self.lengths))

    def cut(self, tokens: int) -> Iterator[tuple[slice, "Ragged"]]:
        """Runs of whole sequences, of at most `tokens` tokens or of a single sequence, and the slice of their tokens.

        Needs sequences end to end, as `querying_all` and `owners` do.
        """
        behind, first = self.starts + self.lengths, 0
        while first < len(self.starts):
            start = int(self.starts[first])
            end = max(first + 1, int(np.searchsorted(behind, start + tokens, "right")))
            part, (begin, stop) = slice(first, end), self.queries[[first, end]]
            queries = self.queries[first : end + 1] - begin
            run = Ragged(self.starts[part] - start, self.lengths[part], queries, self.positions[begin:stop])
            yield slice(start, int(behind[end - 1])), run
            first = end

    @property
    def tokens(self) -> Int64s:
        """int64[Q]: the token of each query."""
        return np.repeat(self.starts, np.diff(self.queries)) + self.positions

    @property
    def owners(self) -> Int64s:
        """int64[T]: the sequence of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)
