"""The digest of data: numpy's text of one width for usual tokens, and no memory for a long one."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from written_log import log_of

from etarec import data


@pytest.mark.parametrize("long", [3, 255, 256, 257, 1000])
def test_the_hash_of_tokens_is_that_of_one_width_up_to_256_characters(tmp_path: Path, long: int) -> None:
    rows = [("a", f"i{n}ü", n * 10) for n in range(8)] + [("a", "x" * long, 90)]
    loaded = data.load(log_of(tmp_path / "log.csv", rows))
    digest = hashlib.sha256(b"max_length 50")
    vocabulary = np.array(loaded.vocabulary.to_pylist(), np.str_)
    arrays = {name: getattr(loaded, name) for name in ("items", "offsets", "train_end", "valid_end")}
    for name, array in [*arrays.items(), ("vocabulary", vocabulary)]:
        digest.update(f" {name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    assert (loaded.sha256 == digest.hexdigest()) == (long <= 256)


def test_one_long_id_costs_its_own_length_only(tmp_path: Path) -> None:
    rows = [(f"u{n % 9}", f"i{n}", n * 10) for n in range(20_000)] + [("u1", "x" * 500_000, 1)]
    config = log_of(tmp_path / "log.csv", rows)
    tracemalloc.start()  # of one width, the tokens would take 40 GB
    loaded = data.load(config)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
    assert loaded.sha256 != data.load(log_of(tmp_path / "log.csv", [*rows[:-1], ("u1", "x" * 499_999 + "y", 1)])).sha256
