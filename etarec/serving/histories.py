"""The histories of the users that a recommender serves, and the flat form in which adapters read those of a batch.

A user's history keeps the last `max_length` items, and those that wait to be learned behind them. docs/serving.md has
its size. Histories beyond `max_users` are forgotten, the longest unseen first.

Symbols: N interactions, B samples of a batch.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etarec.adapt.memory import Marks
from etarec.data import Interactions, Stream

Int32s = npt.NDArray[np.int32]
ANY_ITEM = 1  # stands for the item that is to be recommended, where an adapter wants a target


@dataclass(slots=True, eq=False)
class History:
    """One user's newest items, oldest first. code: the user's place in the order in which users came."""

    code: int
    items: Int32s
    marks: Marks
    waiting: int = 0  # interactions at the end that were not learned yet

    def append(self, item: int) -> None:
        new = Marks.blank(1)
        self.items = np.append(self.items, np.int32(item))
        self.marks = Marks(np.append(self.marks.bits, new.bits), np.append(self.marks.losses, new.losses))

    def keep_last(self, count: int) -> None:
        """Forget all but the newest `count` items."""
        self.items = self.items[-count:].copy()
        self.marks = Marks(self.marks.bits[-count:].copy(), self.marks.losses[-count:].copy())


class Sample(NamedTuple):
    """An item of a history and the items before it. position: the item's place in the history, from 1."""

    history: History
    position: int


def first_history(code: int) -> History:
    """The empty history of a new user."""
    return History(code, np.empty(0, np.int32), Marks.blank(0))


@dataclass
class Users:
    """The users by their tokens, the longest unseen first.

    A plain dict would do, but finding its first key takes time in proportion to the keys removed before it.
    """

    max_length: int
    max_users: int
    by_token: OrderedDict[str, History] = field(default_factory=OrderedDict)
    next_code: int = 0
    forgotten: int = 0

    @classmethod
    def of(cls, data: Interactions, tokens: Sequence[str], marks: Marks, max_users: int) -> "Users":
        """The users of a log with their last items. marks: of the log's interactions."""
        users = cls(data.max_length, max_users)
        for code in range(max(0, len(tokens) - max_users), len(tokens)):
            begin = max(data.offsets[code], data.offsets[code + 1] - data.max_length)
            own = slice(int(begin), int(data.offsets[code + 1]))
            kept = Marks(marks.bits[own].copy(), marks.losses[own].copy())
            users.by_token[tokens[code]] = History(code, data.items[own].copy(), kept)
        users.next_code = len(tokens)
        return users

    def append(self, token: str, item: int) -> Sample | None:
        """Add an item to a user's history, a new one where the user is new. None where nothing stands before it."""
        history = self.by_token.get(token)
        if history is None:
            history = self.by_token[token] = first_history(self.next_code)
            self.next_code += 1
        self.by_token.move_to_end(token)
        self._forget()
        history.append(item)
        if len(history.items) == 1:
            return None
        history.waiting += 1
        return Sample(history, len(history.items) - 1)

    def _forget(self) -> None:
        """Forget the longest unseen users beyond `max_users`, but none with something left to learn."""
        while len(self.by_token) > self.max_users:
            token = next((t for t, history in self.by_token.items() if not history.waiting), None)
            if token is None or token == next(reversed(self.by_token)):
                return
            del self.by_token[token]
            self.forgotten += 1


class Batch(NamedTuple):
    """Samples as adapters read them. owners: the distinct histories, in the order of their codes."""

    data: Interactions
    stream: Stream
    marks: Marks
    owners: list[History]

    def put_back(self, marks: Marks, max_length: int) -> None:
        """Give the histories their marks, and cut them: everything in them was learned."""
        for history, own in self._parts():
            history.marks = Marks(marks.bits[own], marks.losses[own])
            history.waiting = 0
            history.keep_last(max_length)

    def _parts(self) -> Iterator[tuple[History, slice]]:
        for n, history in enumerate(self.owners):
            yield history, slice(int(self.data.offsets[n]), int(self.data.offsets[n + 1]))


def flat(samples: Sequence[Sample], vocabulary: pa.LargeStringArray, max_length: int, *, open_end: bool) -> Batch:
    """The batch of some samples. open_end: the last item of each history is not known yet, so that any stands for it.

    Users keep the order of their codes, so sequences run in the order in which a whole log's would.
    """
    owners = sorted({id(s.history): s.history for s in samples}.values(), key=lambda history: history.code)
    place = {id(history): n for n, history in enumerate(owners)}
    end = np.full(int(open_end), ANY_ITEM, np.int32)
    blank = Marks.blank(int(open_end))
    lengths = [len(history.items) + open_end for history in owners]
    nobody = np.zeros(len(owners), np.int32)
    data = Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate([part for history in owners for part in (history.items, end)]),
        train_end=nobody,
        valid_end=nobody,
        timestamps=None,
        max_length=max_length,
        vocabulary=vocabulary,
        sha256="",
    )
    marks = Marks(
        np.concatenate([part for history in owners for part in (history.marks.bits, blank.bits)]),
        np.concatenate([part for history in owners for part in (history.marks.losses, blank.losses)]),
    )
    users = np.array([place[id(s.history)] for s in samples], np.int32)
    return Batch(data, Stream(users, np.array([s.position for s in samples], np.int32)), marks, owners)
