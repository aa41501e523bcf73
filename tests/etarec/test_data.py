"""Loading, streams and training windows against slow literal references."""

import gzip
import pickle
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_log import log_of

from etarec import data, split
from etarec.config import ColumnsConfig, DataConfig, SimulationConfig, UserError
from etarec.data import Interactions

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def interactions(lengths: list[int], max_length: int = 5, timestamps: list[float] | None = None) -> Interactions:
    """Users with histories of these lengths, split by ratio; every interaction has its own item."""
    sizes = [split.ratio_sizes(length - 1, Fraction(1, 5), Fraction(1, 2)) for length in lengths]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.arange(1, sum(lengths) + 1, dtype=np.int32),
        train_end=np.array([size[0] for size in sizes], np.int32),
        valid_end=np.array([size[0] + size[1] for size in sizes], np.int32),
        timestamps=None if timestamps is None else np.array(timestamps),
        max_length=max_length,
        vocabulary=pa.array(map(str, range(sum(lengths))), pa.large_string()),
        sha256="",
    )


def histories(loaded: Interactions) -> list[list[str]]:
    tokens = loaded.vocabulary.take(loaded.items - 1).to_pylist()
    return [tokens[loaded.offsets[u] : loaded.offsets[u + 1]] for u in range(loaded.n_users)]


def test_shares_are_the_decimals_that_the_file_gives(tmp_path: Path) -> None:
    config = log_of(tmp_path / "log.csv", [("u", f"i{n:03}", n * 10) for n in range(101)])
    loaded = data.load(replace(config, valid_share=0.29, test_share=0.57))  # 0.29 * 100 is 28.999... as floats
    assert loaded.sample_counts() == {"train": 14, "valid": 29, "test": 57}


def test_load_can_split_by_leave_one_out(tmp_path: Path) -> None:
    rows = [(user, f"i{n}", n) for user, length in (("a", 5), ("b", 2), ("c", 4)) for n in range(length)]
    loaded = data.load(replace(log_of(tmp_path / "log.csv", rows), split="leave_one_out"))
    assert loaded.train_end.tolist() == [2, 1, 1]
    assert loaded.valid_end.tolist() == [3, 1, 2]


def test_load_sorts_by_time_and_keeps_the_order_of_ties(tmp_path: Path) -> None:
    rows = [("b", "x", 5), ("a", "z", 9), ("b", "w", 2), ("a", "y", 9), ("a", "10", 1.5), ("b", "y", 5), ("a", "9", 20)]
    loaded = data.load(log_of(tmp_path / "log.csv", rows))
    assert histories(loaded) == [["10", "z", "y", "9"], ["w", "x", "y"]]
    assert loaded.vocabulary.tolist() == ["10", "9", "w", "x", "y", "z"]
    assert loaded.timestamps is not None
    assert loaded.timestamps.tolist() == [1.5, 9, 9, 20, 2, 5, 5]


def test_without_a_timestamp_column_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    rows = [("a", "q", 3), ("a", "p", 2), ("a", "r", 1), ("a", "q", 0)]
    config = log_of(tmp_path / "log.csv", rows)
    loaded = data.load(replace(config, columns=ColumnsConfig(timestamp=None), valid_share=0.3))
    assert histories(loaded) == [["q", "p", "r", "q"]]
    assert loaded.timestamps is None


def test_the_hash_depends_on_data_and_split_but_not_on_the_file_format(tmp_path: Path) -> None:
    rows = [(f"u{n % 7}", f"i{n % 5}", 100 + n) for n in range(70)]
    config = log_of(tmp_path / "log.csv", rows)
    first = data.load(config)
    log_of(tmp_path / "turned.csv", rows[::-1])
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_parquet(tmp_path / "log.parquet")
    for other in ("turned.csv", "log.parquet"):
        assert data.load(replace(config, path=str(tmp_path / other))).sha256 == first.sha256
    changed = [replace(config, max_length=49), replace(config, valid_share=0.3), replace(config, split="leave_one_out")]
    log_of(tmp_path / "renamed.csv", [(user, item.replace("i", "j"), time) for user, item, time in rows])
    changed.append(replace(config, path=str(tmp_path / "renamed.csv")))
    assert len({first.sha256, *(data.load(other).sha256 for other in changed)}) == 5


def test_arrays_are_read_only_and_have_the_documented_types() -> None:
    loaded = data.load(DataConfig(dataset="simulated", simulation=SimulationConfig(users=200, items=60)))
    types = {"offsets": "int64", "items": "int32", "train_end": "int32", "valid_end": "int32", "timestamps": "float64"}
    for source in (loaded, loaded.without_test()):
        for name, kind in types.items():
            array = getattr(source, name)
            assert array.dtype == kind
            assert not array.flags.writeable
    assert loaded.items.min() == 1
    assert loaded.items.max() == len(loaded.vocabulary) == loaded.n_items - 1
    buffers: list[pickle.PickleBuffer] = []
    inside = pickle.dumps(loaded, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) > len(types) and len(inside) < 3000  # arrays and tokens are outside


@given(lengths=LENGTHS)
def test_without_test_keeps_everything_but_the_test_items(lengths: list[int]) -> None:
    whole = interactions(lengths, timestamps=list(range(sum(lengths))))
    cut = whole.without_test()
    for user in range(whole.n_users):
        kept = whole.items[whole.offsets[user] :][: whole.valid_end[user] + 1]
        assert cut.items[cut.offsets[user] : cut.offsets[user + 1]].tolist() == kept.tolist()
    assert cut.timestamps is not None
    assert cut.timestamps.tolist() == (cut.items - 1).tolist()
    assert cut.sample_counts() == {**whole.sample_counts(), "test": 0}
    assert len(data.stream(cut, "test", "position", 0)) == 0
    for name in ("sha256", "vocabulary", "max_length"):
        assert getattr(cut, name) is getattr(whole, name)


def literal_samples(source: Interactions, split: str) -> list[tuple[int, int]]:
    parts = {"train": (0, 1), "valid": (1, 2), "test": (2, 3)}[split]
    ends = [np.zeros_like(source.train_end), source.train_end, source.valid_end, np.diff(source.offsets) - 1]
    return [
        (user, t) for user in range(source.n_users) for t in range(ends[parts[0]][user] + 1, ends[parts[1]][user] + 1)
    ]


@given(lengths=LENGTHS, split=st.sampled_from(["train", "valid", "test"]), seed=st.integers(0, 99))
def test_every_stream_order_matches_its_definition(lengths: list[int], split: str, seed: int) -> None:
    times = np.random.default_rng(seed).integers(0, 9, sum(lengths)).astype(float)
    for begin, end in zip(np.cumsum([0, *lengths[:-1]]), np.cumsum(lengths), strict=True):
        times[begin:end].sort()
    source = interactions(lengths, timestamps=list(times))
    samples = literal_samples(source, split)
    first = {user: min(t for u, t in samples if u == user) for user, _ in samples}

    def served(order: str, seed: int = 0) -> list[tuple[int, int]]:
        result = data.stream(source, split, order, seed)
        assert result.users.dtype == result.positions.dtype == np.int32
        return list(zip(result.users.tolist(), result.positions.tolist(), strict=True))

    assert served("user") == samples
    assert served("position") == sorted(samples, key=lambda sample: (sample[1] - first[sample[0]], sample[0]))
    assert served("time") == sorted(samples, key=lambda sample: times[source.offsets[sample[0]] + sample[1]])
    assert sorted(served("shuffled", seed)) == samples
    assert served("shuffled", seed) == served("shuffled", seed)


def test_the_order_shuffled_depends_on_the_seed() -> None:
    source = interactions([40] * 5)
    orders = [data.stream(source, "test", "shuffled", seed).positions.tolist() for seed in (1, 2)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("first", [0, 1])
def test_order_time_is_refused_if_timestamps_only_count_interactions(tmp_path: Path, first: int) -> None:
    rows = [(user, f"i{n}", n + first) for user in "ab" for n in range(6)]
    loaded = data.load(log_of(tmp_path / "log.csv", rows))
    assert loaded.timestamps is None
    with pytest.raises(UserError, match=r"order 'time' needs timestamps .* use order 'position'"):
        data.stream(loaded, "valid", "time", 0)


def test_timestamps_are_kept_if_one_of_them_is_not_a_count(tmp_path: Path) -> None:
    rows = [(user, f"i{n}", n + (user == "b") * 0.5) for user in "ab" for n in range(6)]
    assert data.load(log_of(tmp_path / "log.csv", rows)).timestamps is not None


@given(lengths=LENGTHS, max_length=st.integers(1, 9), stride=st.integers(1, 9))
def test_windows_hold_every_training_sample_once_with_its_input(
    lengths: list[int], max_length: int, stride: int
) -> None:
    source = interactions(lengths, max_length)
    stride = min(stride, max_length)
    starts, sizes, first_losses = data.training_windows(source, stride)
    assert (starts.dtype, sizes.dtype, first_losses.dtype) == (np.int64, np.int32, np.int32)
    found = {}
    for start, size, first_loss in zip(starts.tolist(), sizes.tolist(), first_losses.tolist(), strict=True):
        assert 0 <= first_loss < size <= max_length
        for index in range(first_loss, size):
            target = int(source.items[start + index + 1])
            assert target not in found
            found[target] = source.items[start : start + index + 1].tolist()

    expected = {}
    for user, t in literal_samples(source, "train"):
        begin = 0 if t <= max_length else ceil((t - max_length) / stride) * stride
        history = source.items[source.offsets[user] : source.offsets[user + 1]].tolist()
        expected[history[t]] = history[begin:t]
        assert t <= max_length or max_length - stride < t - begin <= max_length
    assert found == expected


def test_a_stride_above_max_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"train.window_stride 6 must lie between 1 and data.max_length \(5\)"):
        data.training_windows(interactions([9]), 6)


def test_trained_interactions_end_where_validation_begins() -> None:
    source = interactions([11, 2])  # ten samples: 1-3 train, 4-5 validation, 6-10 test; one sample: train
    assert data.trained(source).tolist() == [True] * 4 + [False] * 7 + [True] * 2


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        ([("a", "x", 1), ("b", "y", 2)], {"k_core": 5}, "5-core filter .* leaves none of the 2 .*k_core: 0"),
        ([("a", "x", 1), ("a", "y", 2), ("b", "y", 2)], {}, "no user has 3 or more interactions"),
        ([("a", "x", 1), ("a", "y", 2), ("a", "z", 7)], {}, "leaves no valid sample.*train 1, valid 0, test 1"),
        ([("a", str(n), n * 3) for n in range(9)], {"test_share": 0.0}, "leaves no test sample.*test_share 0.0"),
        ([("a", str(n), n * 3) for n in range(3)], {"split": "leave_one_out"}, "no valid sample.*4 interactions"),
    ],
)
def test_a_log_that_cannot_be_split_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, object]], change: dict[str, object], message: str
) -> None:
    config = log_of(tmp_path / "log.csv", rows)
    with pytest.raises(UserError, match=message) as error:
        data.load(replace(config, **change))
    assert str(tmp_path / "log.csv") in str(error.value)


def literal_history_lengths(path: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    with gzip.open(path, "rt") as file:
        next(file)
        for line in file:
            user = line.split("\t")[0]
            counts[user] = counts.get(user, 0) + 1
    return counts


@pytest.mark.data
def test_video_games_has_the_published_split(shared_data: Path) -> None:
    path = shared_data / "amazon-video-games.inter.gz"
    loaded = data.load(DataConfig(path=str(path), valid_share=0.2, test_share=0.5))
    assert loaded.sample_counts() == {"train": 70_497, "valid": 38_221, "test": 98_759}
    assert (loaded.n_users, loaded.n_items, loaded.n_interactions) == (24_303, 10_673, 231_780)
    assert loaded.timestamps is None
    lengths = literal_history_lengths(path)
    assert np.diff(loaded.offsets).tolist() == [lengths[user] for user in sorted(lengths)]
    assert len(data.training_windows(loaded, 1)[0]) == loaded.n_users + np.maximum(loaded.train_end - 50, 0).sum()


@pytest.mark.data
def test_beauty_loads(shared_data: Path) -> None:
    loaded = data.load(DataConfig(path=str(shared_data / "amazon-beauty.inter.gz")))
    assert (loaded.n_users, loaded.n_items, loaded.n_interactions) == (22_363, 12_102, 198_502)
    lengths = np.diff(loaded.offsets)
    valid = sum(max(floor(0.2 * (n - 1)), 1) for n in lengths.tolist() if n >= 4)
    assert loaded.sample_counts()["valid"] == valid


def test_a_rehearsal_is_the_split_with_a_larger_validation_share_and_the_same_test_samples() -> None:
    simulated = {"dataset": "simulated", "simulation": SimulationConfig(users=200, items=300)}
    config = DataConfig(**simulated, rehearsal_gap=False)
    whole = data.load(config)
    rehearsed, expected = data.rehearsal(whole, config, 0.35), data.load(DataConfig(**simulated, valid_share=0.35))
    assert rehearsed.gap_end is None
    for name in ("offsets", "items", "train_end", "valid_end"):
        assert np.array_equal(getattr(rehearsed, name), getattr(expected, name)), name
    assert rehearsed.sha256 == expected.sha256 != whole.sha256
    assert (rehearsed.train_end <= whole.train_end).all() and (rehearsed.train_end < whole.train_end).any()


@given(
    samples=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    test=st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    gap=st.booleans(),
)
def test_a_rehearsal_never_contains_test_samples_nor_grows_the_training_part(
    samples: list[int], test: float, gap: bool
) -> None:
    """Short histories included, where a share below one sample takes a sample from training."""
    config = DataConfig(dataset="simulated", valid_share=0.1, test_share=test, rehearsal_gap=gap)
    parts = np.array([split.ratio_sizes(n, Fraction("0.1"), Fraction(str(test))) for n in samples])
    ends = parts.cumsum(1)
    source = replace(interactions([n + 1 for n in samples]), train_end=ends[:, 0], valid_end=ends[:, 1])
    rehearsed = data.rehearsal(source, config, 0.45)
    assert np.array_equal(rehearsed.valid_end, source.valid_end)
    assert (rehearsed.train_end <= source.train_end).all()
    assert (rehearsed.train_end <= rehearsed.valid_start).all() and (rehearsed.valid_start <= source.valid_end).all()
    assert sum(rehearsed.sample_counts().values()) == sum(samples)


def test_a_rehearsal_begins_as_late_after_its_training_as_test_does() -> None:
    """60 samples, 12 for validation and 30 for test: of the 21 of a rehearsal, 6 are the gap."""
    config = DataConfig(dataset="simulated")
    source = replace(interactions([61]), train_end=np.array([18], np.int32), valid_end=np.array([30], np.int32))
    rehearsed = data.rehearsal(source, config, 0.35)
    assert rehearsed.sample_counts() == {"train": 9, "gap": 6, "valid": 15, "test": 30}
    assert data.stream(rehearsed, "valid", "user", 0).positions.tolist() == list(range(16, 31))
    assert data.stream(rehearsed, "train", "user", 0).positions.tolist() == list(range(1, 10))
    assert data.trained(rehearsed).sum() == 10  # the user's first item, and the targets of training
    assert np.array_equal(rehearsed.without_test().valid_start, rehearsed.valid_start)
    without = data.rehearsal(source, replace(config, rehearsal_gap=False), 0.35)
    assert without.sample_counts() == {"train": 9, "valid": 21, "test": 30} and without.sha256 != rehearsed.sha256


def test_a_rehearsal_is_told_in_one_sentence():
    samples = {"train": 47563, "valid": 61155, "test": 9}
    after = "run on the 61,155 samples before test, from {} trained on the 47,563 before those"
    assert data.rehearsal_text(samples) == after.format("a checkpoint")
    assert data.rehearsal_text(samples, "a second checkpoint") == after.format("a second checkpoint")
    text = data.rehearsal_text({**samples, "gap": 8})
    assert text.endswith("samples before test, from a checkpoint trained on the first 47,563 (a gap of 8 between)")


def test_repeated_rows_are_said_and_dropped_on_request(tmp_path: Path) -> None:
    rows: list[tuple[str, str, object]] = [("a", f"i{n % 6}", 10 * (n % 6)) for n in range(9)] + [("a", "i0", 99)]
    config = log_of(tmp_path / "log.csv", rows)
    assert data.load(config).reading.doubts == (
        "3 of 10 rows repeat the user, item and time of another; `data.drop: [duplicates]` keeps one of each",
    )
    dropped = data.load(replace(config, drop=("duplicates",)))
    assert dropped.n_interactions == 7 and dropped.reading.dropped == ("3 of 10 rows (data.drop: duplicates)",)
