"""Transitions that samples offer: what target `weights` with `next_item` learns from.

A transition is named by the place of its second item in `Interactions.items`. With `feedback: next_request` a sample
offers transitions inside its own input, whose items have been served as targets at the latest in an earlier request.
With `feedback: immediate` it also offers the one to its own target, which the adapter asks for after ranking it.

Symbols: B samples of a batch, T offered transitions.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from etarec.config import AdaptConfig
from etarec.data import Stream, trained
from etarec.encode import Encoder
from etarec.ragged import Int64s

Bools = npt.NDArray[np.bool_]


class Offer(NamedTuple):
    """The transitions that the samples of a batch may learn from, in the order of the samples.

    owners: int[T], the sample of each transition, as its place in the batch; places: int[T], the transitions.
    """

    owners: Int64s
    places: Int64s

    def nothing_to_learn(self, size: int) -> Bools:
        """bool[B]: the samples of a batch of `size` that offer no transition."""
        nothing = np.ones(size, np.bool_)
        nothing[self.owners] = False
        return nothing

    def by(self, samples: Bools) -> "Offer":
        """The transitions that some samples of the batch offer: bool[B]."""
        return self.where(samples[self.owners])

    def distinct(self) -> "Offer":
        """Each transition once, offered by the first of its samples: two samples of a user may offer the same one."""
        return self.where(np.isin(np.arange(len(self.places)), np.unique(self.places, return_index=True)[1]))

    def newest(self) -> "Offer":
        """The last transition that each sample offers."""
        return self.where(np.diff(self.owners, append=-1) != 0)

    def where(self, kept: Bools) -> "Offer":
        """Some of the transitions: bool[T]."""
        return Offer(self.owners[kept], self.places[kept])


NO_TRANSITIONS = Offer(np.empty(0, np.int64), np.empty(0, np.int64))


class Observed:
    """Keeps, along a stream, which transitions may be learned from: none before the rank of its target is settled.

    `serve: after` settles a rank after the step, and the order `shuffled` serves some samples of a user before earlier
    ones. `new_transitions_only` leaves out those of the training split, `transitions: pending` those learned before.
    """

    def __init__(self, encoder: Encoder, stream: Stream, config: AdaptConfig):
        data = encoder.data
        self._own = config.feedback == "immediate"
        self.starts, self.ends = encoder.ranges(stream.users, stream.positions)
        self._pending = config.transitions == "pending"
        self._learned = trained(data) if config.new_transitions_only else np.zeros(data.n_interactions, np.bool_)
        self._shallow = np.zeros(data.n_interactions, np.bool_)
        self._offered = np.zeros(data.n_interactions, np.bool_)
        self._unsettled = np.zeros(data.n_interactions, np.bool_)
        self._unsettled[self.ends] = True

    def marks(self) -> npt.NDArray[np.uint8]:
        """The bits of `Marks`, uint8[N]."""
        return (self._learned + 2 * self._shallow + 4 * self._offered).astype(np.uint8)

    def recall(self, bits: npt.NDArray[np.uint8]) -> None:
        """Replace what is known of the interactions. bits: of `Marks`."""
        self._learned, self._shallow, self._offered = ((bits & bit) > 0 for bit in (1, 2, 4))

    def settle(self, rows: slice) -> None:
        """Note that the ranks of these samples are settled, so that later samples may learn from their targets."""
        self._unsettled[self.ends[rows]] = False

    def offer(self, rows: slice) -> Offer:
        """The transitions that the samples of a batch may learn from."""
        starts, ends = self.starts[rows], self.ends[rows] + self._own  # behind the newest transition
        first = starts + 1 if self._pending else np.maximum(starts + 1, ends - 1)
        counts = np.maximum(ends - first, 0)
        owners = np.repeat(np.arange(len(ends)), counts)
        places = np.arange(len(owners)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        open_ = ~(self._learned[places] | self._unsettled[places])
        return Offer(owners[open_], places[open_])

    def learned_by_all(self, offer: Offer) -> Offer:
        """The part of a batch's offer that adapting on every sample would learn. Ask once for each batch."""
        fresh = offer.where(~self._offered[offer.places]) if self._pending else offer
        self._offered[offer.places] = True
        return fresh

    def shallow(self, skipped: Offer, covered: Int64s) -> Offer:
        """The transitions that skipped samples learn by a shallow step: the newest one that each of them offers.

        A transition takes one shallow step, and none beside a pass that covers it. covered: places that passes learn.
        """
        newest = skipped.newest()
        done = self._shallow[newest.places] | np.isin(newest.places, covered)
        return newest.where(~done)

    def took_shallow_step(self, places: Int64s) -> Bools:
        """Whether transitions were learned by a shallow step before: bool[T]."""
        return self._shallow[places]

    def learned_shallowly(self, places: Int64s) -> None:
        """Note that these transitions took a shallow step; they stay offered."""
        self._shallow[places] = True

    def learned(self, places: Int64s) -> None:
        """Note that a backward pass has learned these transitions."""
        if self._pending:
            self._learned[places] = True
