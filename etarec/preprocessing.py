"""Preprocessing of a log: rows sorted by user and time, repeated rows, and the k-core filter."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import UserError
from etarec.readers import Log
from etarec.readers.ids import Int32s
from etarec.readers.times import Floats

Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]  # row numbers, or whether to keep each row


def sort_by_time(log: Log) -> Log:
    """The rows by user, then time; rows with equal times keep the file's order.

    Timestamps that only count each user's interactions are dropped: they cannot be compared across users.
    """
    keys = {"users": log.users} if log.times is None else {"users": log.users, "times": log.times}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(key, "ascending") for key in keys]).to_numpy()
    log = _take(log, order.view(np.int64))
    if log.times is not None and _only_count(log.users, log.times):
        return replace(log, times=None)
    return log


def without_duplicates(log: Log, drop: bool) -> Log:
    """The sorted log, in which the first of rows with the same user, item and time stays alone if `drop` is true.

    In a log without timestamps, rows of the same user and item are the same. Otherwise the number of repeated rows is
    said where there are timestamps: without them, to come back to an item is ordinary.
    """
    if not drop and log.times is None:
        return log
    kept = _first_of_equal(log)
    count = len(kept) - int(np.count_nonzero(kept))
    if not count:
        return log
    share = f"{count:,} of {len(kept):,} rows"
    if drop:
        return replace(_take(log, kept), reading=log.reading.and_(dropped=f"{share} (data.drop: duplicates)"))
    doubt = f"{share} repeat the user, item and time of another; `data.drop: [duplicates]` keeps one of each"
    return replace(log, reading=log.reading.and_(doubts=(doubt,)))


def _first_of_equal(log: Log) -> npt.NDArray[np.bool_]:
    """Whether each row of a sorted log is the first of its user, item and time."""
    begins = np.diff(log.users, prepend=-1) != 0
    if log.times is not None:
        begins[1:] |= log.times[1:] != log.times[:-1]
    alone = begins & np.append(begins[1:], True)
    tied = np.flatnonzero(~alone)
    runs = np.cumsum(begins[tied])
    _, first = np.unique(runs * np.int64(len(log.tokens)) + log.items[tied], return_index=True)
    kept = alone
    kept[tied[first]] = True
    return kept


def k_core(log: Log, k: int, source: str) -> Log:
    """The largest part of the log in which every user and every item has at least k interactions.

    Users and items are numbered again without gaps.
    Raises UserError, whose message begins with `source`, if nothing is left.
    """
    n_interactions = len(log.items)
    while True:
        enough = (np.bincount(log.users) >= k)[log.users] & (np.bincount(log.items) >= k)[log.items]
        if enough.all():
            break
        log = _take(log, enough)
    if not len(log.items):
        raise UserError(
            f"{source}: the {k}-core filter (data.k_core) leaves none of the {n_interactions:,} interactions; "
            f"k_core: 0 turns the filter off"
        )
    items, users = (pa.array(np.flatnonzero(np.bincount(codes))) for codes in (log.items, log.users))
    return replace(
        log,
        users=_without_gaps(log.users),
        items=_without_gaps(log.items),
        tokens=log.tokens.take(items),
        user_tokens=log.user_tokens.take(users) if len(log.user_tokens) else log.user_tokens,
    )


def _only_count(users: Int32s, times: Floats) -> bool:
    """Whether the times of sorted rows are 0, 1, 2, ... or 1, 2, 3, ... for every user."""
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    if times[0] not in (0, 1) or (times[starts] != times[0]).any():
        return False
    steps = np.diff(times)
    steps[starts[1:] - 1] = 1
    return bool((steps == 1).all())


def _take(log: Log, rows: Rows) -> Log:
    times = None if log.times is None else log.times[rows]
    return replace(log, users=log.users[rows], items=log.items[rows], times=times)


def _without_gaps(codes: Int32s) -> Int32s:
    """Codes 0, 1, 2, ... in the order of the given codes."""
    return (np.cumsum(np.bincount(codes) > 0, dtype=np.int32) - np.int32(1))[codes]
