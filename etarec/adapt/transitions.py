"""Transitions that a sample's own input shows: what target `weights` with `next_item` learns from.

A transition is named by the place of its second item in `Interactions.items`; that item has been served as a target
before, at the latest in an earlier request. The sample's own target is behind its input and never among them.
"""

import numpy as np
import numpy.typing as npt

from etarec.config import AdaptConfig
from etarec.data import Stream, trained
from etarec.encode import Encoder
from etarec.ragged import Int64s

Bools = npt.NDArray[np.bool_]


class Observed:
    """Keeps, along a stream, which transitions may be learned from: none before its target's own rank is settled.

    `serve: after` settles a rank after the step, and the order `shuffled` serves a user's later samples before earlier
    ones. `new_transitions_only` leaves out those of the training split, `transitions: pending` those learned before.
    """

    def __init__(self, encoder: Encoder, stream: Stream, config: AdaptConfig):
        data = encoder.data
        self.starts, self.ends = encoder.ranges(stream.users, stream.positions)
        self._pending = config.transitions == "pending"
        self._learned = trained(data) if config.new_transitions_only else np.zeros(data.n_interactions, np.bool_)
        self._unserved = np.zeros(data.n_interactions, np.bool_)
        self._unserved[self.ends] = True

    def served(self, rows: slice) -> None:
        """The ranks of these samples are settled: their targets may be learned from by the samples that follow."""
        self._unserved[self.ends[rows]] = False

    def of(self, part: Int64s) -> tuple[Int64s, Int64s]:
        """(row of `part`, transition) of all that samples may learn from, in the order of the rows."""
        first = self.starts[part] + 1
        if not self._pending:
            first = np.maximum(first, self.ends[part] - 1)
        counts = np.maximum(self.ends[part] - first, 0)
        rows = np.repeat(np.arange(len(part)), counts)
        places = np.arange(len(rows)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        open_ = ~(self._learned[places] | self._unserved[places])
        return rows[open_], places[open_]

    def nothing(self, part: Int64s) -> Bools:
        """Samples without a transition to learn from."""
        nothing = np.ones(len(part), np.bool_)
        nothing[self.of(part)[0]] = False
        return nothing

    def learned(self, places: Int64s) -> None:
        """A backward pass was computed over these transitions."""
        if self._pending:
            self._learned[places] = True
