"""Sequences of tokens in one array, most often end to end, and which of the tokens are asked for.

Symbols: N sequences, T tokens, Q queries.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int64s = npt.NDArray[np.int64]


class Ragged(NamedTuple):
    """starts, lengths: int64[N], each sequence's first token, and how many it has, one at least; queries: int64[N + 1],
    its first query, and one behind all; positions: int64[Q], where in its sequence a query stands, strictly ascending
    in each. The compiled code believes all of this."""

    starts: Int64s
    lengths: Int64s
    queries: Int64s
    positions: Int64s

    @classmethod
    def of(cls, rows: Int64s, positions: Int64s) -> "Ragged":
        """End to end, as long as they are asked for: queries stand at positions of sequences `rows`, which come in
        order, none left out."""
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        queries = np.append(firsts, len(rows))
        lengths = positions[queries[1:] - 1] + 1
        return cls(np.cumsum(lengths) - lengths, lengths, queries, positions)

    @classmethod
    def padded(cls, N: int, L: int, asked: int, lengths: Tensor | None) -> "Ragged":
        """Each in a row of L tokens; queries are the last so many positions of all rows, or of each sequence its last
        one, where lengths are given."""
        own = np.full(N, L) if lengths is None else lengths.numpy().astype(np.int64)
        positions = np.tile(np.arange(L - asked, L), N) if lengths is None else own - 1
        return cls(np.arange(N) * L, own, np.arange(N + 1) * asked, positions)

    def asking_everything(self) -> "Ragged":
        """The same sequences, each token of which is a query."""
        behind = np.cumsum(self.lengths)
        queries = np.concatenate(([0], behind))
        return self._replace(queries=queries, positions=np.arange(behind[-1]) - np.repeat(queries[:-1], self.lengths))

    def cut(self, tokens: int) -> Iterator[tuple[slice, "Ragged"]]:
        """Runs of sequences that have at most so many tokens together, or are one; and where their tokens lie.

        They lie end to end, as they must for `asking_everything` and `owners`.
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
        """int64[Q]: the queries' places among all tokens."""
        return np.repeat(self.starts, np.diff(self.queries)) + self.positions

    @property
    def owners(self) -> Int64s:
        """int64[T]: the sequence of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def asked(x: Tensor, since: int, lengths: Tensor | None) -> Tensor:
    """[N, L, D] -> the positions from `since` on, or each sequence's own last one: [N, 1, D]."""
    if lengths is None:
        return x[:, since:]
    return x[torch.arange(x.shape[0], device=x.device), lengths.to(x.device) - 1][:, None]
