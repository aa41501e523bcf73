"""Interactions: read a log, filter it to its k-core, encode, split per user, and serve a split's samples as a stream.

A sample is one (user, position t), t = 1..n-1 of the user's n interactions in order: its target is the user's item t,
its input the last `max_length` items before it.
"""

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etarec import readers, simulate
from etarec.config import DataConfig, OrderName, SplitName, UserError

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

PADDING = 0


@dataclass(frozen=True, eq=False)
class Interactions:
    """Encoded histories and their split; U users, N interactions, V items with the padding id.

    Plain read-only arrays, so that Ray shares one copy between processes. User u's items are
    `items[offsets[u]:offsets[u + 1]]`; its samples 1..train_end[u] are train, the next ones up to valid_end[u]
    validation, the rest test.
    """

    offsets: Int64s  # [U + 1]
    items: Int32s  # [N], codes 1..V-1
    train_end: Int32s  # [U]
    valid_end: Int32s  # [U]
    timestamps: Floats | None  # [N] in seconds or as given; None where the log has none that mean anything across users
    max_length: int
    vocabulary: npt.NDArray[np.str_]  # [V - 1], the token of item code c at index c - 1
    sha256: str  # of data and split, before any truncation

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        """V: the vocabulary and the padding id."""
        return len(self.vocabulary) + 1

    @property
    def n_interactions(self) -> int:
        """N."""
        return len(self.items)

    @property
    def n_samples(self) -> Int32s:
        """[U] samples of each user: one less than interactions."""
        return (np.diff(self.offsets) - 1).astype(np.int32)

    def sample_counts(self) -> dict[str, int]:
        """Samples of each split, over all users."""
        ends = [int(part.sum()) for part in (self.train_end, self.valid_end, self.n_samples)]
        return {"train": ends[0], "valid": ends[1] - ends[0], "test": ends[2] - ends[1]}

    def without_test(self) -> "Interactions":
        """The same data and sha256 with every history cut behind its last validation target.

        A search works on this: what it does not hold, it cannot select on.
        """
        parts = np.stack([self.valid_end + 1, self.n_samples - self.valid_end], axis=1)
        kept = np.repeat(np.tile([True, False], self.n_users), parts.ravel())
        return replace(
            self,
            offsets=_frozen(_offsets(self.valid_end.astype(np.int64) + 1)),
            items=_frozen(self.items[kept]),
            timestamps=None if self.timestamps is None else _frozen(self.timestamps[kept]),
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """S samples in the order in which they are served."""

    users: Int32s  # [S]
    positions: Int32s  # [S], t of each sample

    def __len__(self) -> int:
        return len(self.users)


def load(config: DataConfig) -> Interactions:
    """The log that `config` names, filtered, encoded and split.

    Users and items are numbered in the order of their tokens, so neither the file's order nor its format changes a
    code; the file's order decides only between equal timestamps.
    Raises UserError, with the file and what was expected, for every log that cannot be used.
    """
    source = config.path or "the simulated data"
    core = _k_core(_sorted(_read(config, source)), config.k_core, source)
    lengths = np.bincount(core.users)
    if lengths.max() < 3:
        raise UserError(f"{source}: no user has 3 interactions or more, as a split into train, valid and test needs")
    data = _split(core, lengths, config)
    for name, count in data.sample_counts().items():
        if not count:
            raise UserError(f"{source}: data.split {config.split!r} leaves no {name} sample ({_shares(config, data)})")
    return data


def rehearsal(data: Interactions, config: DataConfig, share: float) -> Interactions:
    """The same data with so large a share for validation: less to train on, the same test samples.

    A longer stream, on which a model ages and a user comes back, shows more of what adapting does on test.
    """
    wanted = replace(config, valid_share=share, rehearsal_share=None)
    train, _ = _part_sizes(data.n_samples.astype(np.int64), wanted)
    train_end = _frozen(np.minimum(train, data.train_end).astype(np.int32))
    parts = ("offsets", "items", "valid_end", "vocabulary")
    hashed = {name: getattr(data, name) for name in parts} | {"train_end": train_end}
    return replace(data, train_end=train_end, sha256=_digest(hashed, config.max_length))


def _read(config: DataConfig, source: str) -> readers.Log:
    if config.path is None:
        return readers.from_frame(simulate.interactions(config.simulation), source)
    return readers.read(Path(config.path), config.columns)


def _split(log: readers.Log, lengths: Int64s, config: DataConfig) -> Interactions:
    train, valid = _part_sizes(lengths - 1, config)
    hashed: dict[str, Any] = {
        "offsets": _offsets(lengths),
        "items": log.items + np.int32(PADDING + 1),
        "train_end": train.astype(np.int32),
        "valid_end": (train + valid).astype(np.int32),
        "vocabulary": log.tokens,
    }
    return Interactions(
        **{name: _frozen(array) for name, array in hashed.items()},
        timestamps=None if log.times is None else _frozen(log.times),
        max_length=config.max_length,
        sha256=_digest(hashed, config.max_length),
    )


def _shares(config: DataConfig, data: Interactions) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in data.sample_counts().items())
    if config.split == "leave_one_out":
        return f"{counts}; it needs users with at least 4 interactions"
    return f"{counts} at valid_share {config.valid_share}, test_share {config.test_share}"


def _part_sizes(samples: Int64s, config: DataConfig) -> tuple[Int64s, Int64s]:
    """Train and validation samples of users with so many samples each; the rest is test."""
    sizes, inverse = np.unique(samples, return_inverse=True)
    if config.split == "leave_one_out":
        parts = [leave_one_out_sizes(int(size)) for size in sizes]
    else:
        # The shortest decimal that reads as the float is what was written: 0.29 means 29/100.
        valid, test = Fraction(str(config.valid_share)), Fraction(str(config.test_share))
        parts = [ratio_sizes(int(size), valid, test) for size in sizes]
    table = np.array(parts, np.int64)
    return table[inverse, 0], table[inverse, 1]


def ratio_sizes(samples: int, valid_share: Fraction, test_share: Fraction) -> tuple[int, int, int]:
    """Train, validation and test samples: floors, and one sample of train for a part below one, test first."""
    valid, test = int(valid_share * samples), int(test_share * samples)
    train = samples - valid - test
    if train > 1 and 0 < test_share * samples < 1:
        train, test = train - 1, test + 1
    if train > 1 and 0 < valid_share * samples < 1:
        train, valid = train - 1, valid + 1
    return train, valid, test


def leave_one_out_sizes(samples: int) -> tuple[int, int, int]:
    """Train, validation and test samples: the last one is test, the one before validation.

    A user with one sample trains only, one with two has no validation sample: nothing is held out untrained.
    """
    test = int(samples >= 2)
    valid = int(samples >= 3)
    return samples - valid - test, valid, test


def stream(data: Interactions, split: SplitName, order: OrderName, seed: int) -> Stream:
    """The samples of `split`; `seed` matters to the order `shuffled` only.

    `user`: user by user; `position`: everybody's first sample of the split, then everybody's second, ...; `time`: by
    the target's timestamp. Users come in code order and their samples in their own order wherever these leave a tie.
    Raises UserError for `time` without timestamps that can be compared across users.
    """
    starts = {"train": np.zeros_like(data.train_end), "valid": data.train_end, "test": data.valid_end}[split]
    ends = {"train": data.train_end, "valid": data.valid_end, "test": data.n_samples}[split]
    counts = np.maximum(ends - starts, 0)
    users = np.repeat(np.arange(data.n_users, dtype=np.int32), counts)
    ordinal = np.arange(len(users), dtype=np.int32) - np.repeat(_offsets(counts)[:-1], counts).astype(np.int32)
    positions = starts[users] + ordinal + np.int32(1)
    if order == "shuffled":
        permutation = np.random.default_rng(seed).permutation(len(users))
    elif order == "position":
        permutation = np.argsort(ordinal, kind="stable")
    elif order == "time":
        permutation = np.argsort(_comparable(data)[data.offsets[users] + positions], kind="stable")
    else:
        permutation = np.arange(len(users))
    return Stream(users[permutation], positions[permutation])


def _comparable(data: Interactions) -> Floats:
    if data.timestamps is None:
        raise UserError(
            "data.order 'time' needs timestamps that can be compared across users; this log has none, or they only "
            "count each user's interactions: use order 'position', 'user' or 'shuffled'"
        )
    return data.timestamps


def training_windows(data: Interactions, stride: int) -> tuple[Int64s, Int32s, Int32s]:
    """Windows [W] over `data.items` that hold every train sample exactly once: starts, lengths, first losses.

    Window w has the inputs `items[start:start + length]` and, one further on, their targets; its positions from
    `first_loss` on carry a loss. Sample t sees the inputs from ceil((t - max_length) / stride) * stride on: at most
    max_length and more than max_length - stride of them, and all of them while t <= max_length.
    Stride 1 is one window per sample beyond max_length: exactly the evaluation's inputs.
    """
    if not 1 <= stride <= data.max_length:
        raise UserError(f"train.window_stride {stride} must lie between 1 and data.max_length ({data.max_length})")
    beyond = np.maximum(data.train_end.astype(np.int64) - data.max_length, 0)
    windows = np.where(data.train_end > 0, 1 - (-beyond // stride), 0)
    users = np.repeat(np.arange(data.n_users), windows)
    shifts = stride * (np.arange(len(users)) - np.repeat(_offsets(windows)[:-1], windows))
    lengths = np.minimum(data.train_end[users] - shifts, data.max_length)
    first_loss = np.where(shifts > 0, data.max_length - stride, 0)
    return data.offsets[users] + shifts, lengths.astype(np.int32), first_loss.astype(np.int32)


def trained(data: Interactions) -> Bools:
    """[interactions] whether an item, at its place, is a target of the training split or its user's first item.

    A transition is trained on if its second item is.
    """
    positions = np.arange(data.n_interactions) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    return positions <= np.repeat(data.train_end, np.diff(data.offsets))


def _offsets(counts: npt.NDArray[Any]) -> Int64s:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Read-only, as an array from Ray's object store is, so that writing fails here as it does there."""
    array.setflags(write=False)
    return array


def _digest(arrays: dict[str, npt.NDArray[Any]], max_length: int) -> str:
    digest = hashlib.sha256(f"max_length {max_length}".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f" {name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _sorted(log: readers.Log) -> readers.Log:
    """Rows by user and time, equal times in the file's order; times that mean nothing across users are dropped."""
    keys = {"users": log.users} if log.times is None else {"users": log.users, "times": log.times}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(key, "ascending") for key in keys]).to_numpy()
    log = _take(log, order.view(np.int64))
    if log.times is not None and _only_positions(log.users, log.times):
        return replace(log, times=None)
    return log


def _only_positions(users: Int32s, times: Floats) -> bool:
    """Whether the times of sorted rows merely count each user's interactions, from 0 or from 1."""
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    if times[0] not in (0, 1) or (times[starts] != times[0]).any():
        return False
    steps = np.diff(times)
    steps[starts[1:] - 1] = 1
    return bool((steps == 1).all())


def _k_core(log: readers.Log, k: int, source: str) -> readers.Log:
    """The largest part in which every user and every item has k interactions or more, encoded without gaps."""
    read = len(log.items)
    while True:
        enough = (np.bincount(log.users) >= k)[log.users] & (np.bincount(log.items) >= k)[log.items]
        if enough.all():
            break
        log = _take(log, enough)
    if not len(log.items):
        raise UserError(
            f"{source}: none of its {read:,} interactions is left by the {k}-core filter (data.k_core); "
            f"k_core: 0 switches the filter off"
        )
    used = np.flatnonzero(np.bincount(log.items))
    return replace(log, users=_compact(log.users), items=_compact(log.items), tokens=log.tokens[used])


def _take(log: readers.Log, rows: Int64s | Bools) -> readers.Log:
    times = None if log.times is None else log.times[rows]
    return replace(log, users=log.users[rows], items=log.items[rows], times=times)


def _compact(codes: Int32s) -> Int32s:
    """Codes without gaps, in the same order."""
    return (np.cumsum(np.bincount(codes) > 0, dtype=np.int32) - np.int32(1))[codes]
