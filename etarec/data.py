"""Interactions: load a log, split every user's history, and order a split's samples into a stream.

A sample is a (user, position t) with t = 1..n-1 for a user of n items, counted from 0. Its target is the user's item t,
its input the items before t, at most the last `max_length` of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etarec import readers, simulate
from etarec.config import DataConfig, OrderName, SplitName, UserError
from etarec.data_digest import digest
from etarec.preprocessing import k_core, sort_by_time, without_duplicates
from etarec.readers import Log, Reading
from etarec.split import part_sizes

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

PADDING = 0


@dataclass(frozen=True, eq=False)
class Interactions:
    """Encoded histories and their split: U users, N interactions, V item codes (the padding id 0 included).

    The arrays are plain and read-only, so that Ray shares one copy between processes. User u's items are
    `items[offsets[u]:offsets[u + 1]]`. The user's samples 1..train_end[u] are for training, those after valid_start[u]
    up to valid_end[u] for validation, and the later ones for test. Samples between training and validation, the gap of
    a rehearsal, are in no split.
    """

    offsets: Int64s  # [U + 1]
    items: Int32s  # [N], codes 1..V-1
    train_end: Int32s  # [U]
    valid_end: Int32s  # [U]
    timestamps: Floats | None  # [N], seconds for dates, else as given; None if they cannot be compared across users
    max_length: int
    vocabulary: pa.LargeStringArray  # [V - 1], index c - 1 holds the token of item code c
    sha256: str  # of the data and the split, test samples included
    token_width: int = 0  # characters of the longest token of the log, also before the k-core filter
    reading: Reading = field(default_factory=Reading)  # how the log was read, for the user
    gap_end: Int32s | None = None  # [U], the last sample of the gap; None: no gap

    @property
    def n_users(self) -> int:
        """U, the number of users."""
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        """V, the number of item codes: the vocabulary and the padding id."""
        return len(self.vocabulary) + 1

    @property
    def n_interactions(self) -> int:
        """N, the number of interactions."""
        return len(self.items)

    @property
    def n_samples(self) -> Int32s:
        """The number of samples of each user, int32 [U]: one less than the user's interactions."""
        return (np.diff(self.offsets) - 1).astype(np.int32)

    @property
    def valid_start(self) -> Int32s:
        """The last sample of each user before validation, int32 [U]."""
        return self.train_end if self.gap_end is None else self.gap_end

    def sample_counts(self) -> dict[str, int]:
        """The number of samples of `train`, `valid` and `test`, over all users; and of the `gap`, if there is one."""
        ends = [int(part.sum()) for part in (self.train_end, self.valid_start, self.valid_end, self.n_samples)]
        gap = {} if self.gap_end is None else {"gap": ends[1] - ends[0]}
        return {"train": ends[0], **gap, "valid": ends[2] - ends[1], "test": ends[3] - ends[2]}

    def without_test(self) -> "Interactions":
        """The same data and sha256, with every history cut after its last validation target.

        A search gets these data, so it cannot select on test samples.
        """
        parts = np.stack([self.valid_end + 1, self.n_samples - self.valid_end], axis=1)
        kept = np.repeat(np.tile([True, False], self.n_users), parts.ravel())
        return replace(
            self,
            offsets=_read_only(_offsets(self.valid_end.astype(np.int64) + 1)),
            items=_read_only(self.items[kept]),
            timestamps=None if self.timestamps is None else _read_only(self.timestamps[kept]),
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """S samples in the order in which they are served; `positions` holds the t of each sample."""

    users: Int32s  # [S]
    positions: Int32s  # [S]

    def __len__(self) -> int:
        return len(self.users)


def load(config: DataConfig) -> Interactions:
    """The log that `config` names, reduced to its k-core, encoded and split.

    Users and items are numbered in the order of their tokens, so codes do not depend on the file's format or row order;
    row order decides only between equal timestamps of one user.
    Raises UserError, which names the file and what was expected, if the log cannot be read or split.
    """
    return load_with_users(config)[0]


def load_with_users(config: DataConfig) -> tuple[Interactions, pa.LargeStringArray]:
    """The data as `load` gives them, and the users' tokens in the order of their codes: [U]."""
    source = config.path or "the simulated data"
    core = k_core(prepared(config, source), config.k_core, source)
    lengths = np.bincount(core.users)
    if lengths.max() < 3:
        raise UserError(f"{source}: no user has 3 or more interactions, which a split into train, valid and test needs")
    data = _split(core, lengths, config)
    for name, count in data.sample_counts().items():
        if not count:
            raise UserError(f"{source}: data.split {config.split!r} leaves no {name} sample ({_shares(config, data)})")
    return data, core.user_tokens


def rehearsal(data: Interactions, config: DataConfig, share: float) -> Interactions:
    """The same data with the last `share` of each user's samples before test taken from training, for validation.

    Test samples stay the same. The longer validation stream resembles test more closely: a frozen model ages along it
    and users come back, so it predicts better what adaptation does on test. With `data.rehearsal_gap` it also begins as
    late after training as test does: the gap has the same part of the share as validation has of validation and test.
    """
    train_end, gap_end = np.minimum(_train_sizes(data, config, share), data.train_end), None
    if config.rehearsal_gap:
        served = share * config.test_share / (config.valid_share + config.test_share)
        gap_end = _read_only(np.clip(_train_sizes(data, config, round(served, 6)), train_end, data.valid_end))
    hashed = {name: getattr(data, name) for name in ("offsets", "items", "valid_end")} | {"train_end": train_end}
    hashed |= {} if gap_end is None else {"gap_end": gap_end}
    sha256 = digest(hashed, data.vocabulary, data.token_width, config.max_length)
    return replace(data, train_end=_read_only(train_end), gap_end=gap_end, sha256=sha256)


def _train_sizes(data: Interactions, config: DataConfig, valid_share: float) -> Int32s:
    """The number of training samples of each user at another share of validation, [U]."""
    wanted = replace(config, valid_share=valid_share, rehearsal_share=None)
    return part_sizes(data.n_samples.astype(np.int64), wanted)[0].astype(np.int32)


def rehearsal_text(samples: Mapping[str, int], checkpoint: str = "a checkpoint") -> str:
    """The predicate of a sentence about trials in a rehearsal; `samples` counts those of each split."""
    start = f"run on the {samples['valid']:,} samples before test, from {checkpoint} trained on the "
    if "gap" in samples:
        return f"{start}first {samples['train']:,} (a gap of {samples['gap']:,} between)"
    return f"{start}{samples['train']:,} before those"


def prepared(config: DataConfig, source: str) -> Log:
    """The rows of the log that `config` names, by user and time, before the k-core filter."""
    log = sort_by_time(_read(config, source))
    return without_duplicates(log, drop="duplicates" in config.drop)


def _read(config: DataConfig, source: str) -> Log:
    if config.path is None:
        return readers.from_frame(simulate.interactions(config.simulation), source)
    return readers.read(config)


def _split(log: Log, lengths: Int64s, config: DataConfig) -> Interactions:
    train, valid = part_sizes(lengths - 1, config)
    hashed: dict[str, Any] = {
        "offsets": _offsets(lengths),
        "items": log.items + np.int32(PADDING + 1),
        "train_end": train.astype(np.int32),
        "valid_end": (train + valid).astype(np.int32),
    }
    return Interactions(
        **{name: _read_only(array) for name, array in hashed.items()},
        vocabulary=log.tokens,
        timestamps=None if log.times is None else _read_only(log.times),
        max_length=config.max_length,
        sha256=digest(hashed, log.tokens, log.token_width, config.max_length),
        token_width=log.token_width,
        reading=log.reading,
    )


def _shares(config: DataConfig, data: Interactions) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in data.sample_counts().items())
    if config.split == "leave_one_out":
        return f"{counts}; expected a user with at least 4 interactions"
    return f"{counts} at valid_share {config.valid_share}, test_share {config.test_share}"


def stream(data: Interactions, split: SplitName, order: OrderName, seed: int) -> Stream:
    """The samples of `split` in the order `order`; only `shuffled` uses `seed`.

    `user` serves one user after another, `position` every user's first sample of the split, then every user's second,
    and so on, `time` the samples by their target's timestamp. Ties are in user order, then position.
    Raises UserError for `time` if the data have no timestamps that can be compared across users.
    """
    starts = {"train": np.zeros_like(data.train_end), "valid": data.valid_start, "test": data.valid_end}[split]
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
            "data.order 'time' needs timestamps that can be compared across users; this log has no timestamps, or "
            "they only count each user's interactions; use order 'position', 'user' or 'shuffled'"
        )
    return data.timestamps


def training_windows(data: Interactions, stride: int) -> tuple[Int64s, Int32s, Int32s]:
    """Windows over `data.items` that hold every training sample exactly once: starts, lengths, first losses, each [W].

    A window's inputs are `items[start:start + length]`, its targets the items one place later. Its positions from
    `first_loss` on carry a loss. The input of sample t begins at the user's item 0 while t <= max_length, later at item
    ceil((t - max_length) / stride) * stride, so it has at most max_length and more than max_length - stride items.
    With stride 1 every sample's input is the one that evaluation uses.
    Raises UserError if `stride` is not between 1 and max_length.
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
    """Whether training saw each interaction, bool [N]: as a training target, or as its user's first item.

    Training saw a transition if it saw the second of the two interactions.
    """
    positions = np.arange(data.n_interactions) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    return positions <= np.repeat(data.train_end, np.diff(data.offsets))


def _offsets(counts: npt.NDArray[Any]) -> Int64s:
    """The start of each of the consecutive parts of these sizes, and the total: [parts + 1]."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make `array` read-only, as Ray's object store does, so that a write fails in every process."""
    array.setflags(write=False)
    return array
