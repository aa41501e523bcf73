"""Ids that look missing and ids with an implausible share are said; ids that are missing are refused or dropped."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from etarec.config import UserError

WORDS = ["NA", "NaN", "nan", "null", "NULL", "\\N", "None", " ", "n/a", "<NA>", "undefined", "-"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("what", ["user", "item"])
def test_ids_that_look_missing_are_counted_and_said(read, word, what) -> None:
    cells = [(word, "x"), (word, "y"), ("a", "x")] if what == "user" else [("a", word), ("b", word), ("a", "x")]
    log = read("".join(f"{user},{item}\n" for user, item in cells), 1, 2, None)
    assert len(log.reading.doubts) == 1
    assert (
        f"2 of 3 interactions (66.7%) have the {what} {word!r}, which looks like a missing id" in log.reading.doubts[0]
    )
    assert "`data.drop: [missing_ids]` drops such rows" in log.reading.doubts[0]


@pytest.mark.parametrize("word", [*WORDS, ""])
def test_missing_ids_can_be_dropped(read, rows, word) -> None:
    log = read(
        f"user_id,item_id\n{word},x\na,{word}\na,x\n{word},y\nb,y\n", "user_id", "item_id", None, drop=("missing_ids",)
    )
    tokens = log.tokens.take(log.items).to_pylist()
    assert tokens == ["x", "y"] and len(set(log.users.tolist())) == 2
    assert log.reading.dropped == ("3 of 5 rows (data.drop: missing_ids)",)
    assert log.reading.doubts == ()


def test_ordinary_ids_raise_no_doubt(read) -> None:
    assert read("a,x\nb,0\nnano,-1\nnanny,none of them\n", 1, 2, None).reading.doubts == ()


def test_a_log_of_missing_ids_only_is_refused(read) -> None:
    with pytest.raises(UserError, match="no row has both a user and an item"):
        read("NA,x\nb,null\n", 1, 2, None, drop=("missing_ids",))


@pytest.mark.parametrize(("share", "said"), [(0.04, False), (0.06, True), (0.62, True)])
def test_a_user_of_an_implausible_share_is_named(read, share, said) -> None:
    others = 1000
    big = round(others * share / (1 - share))
    text = "".join(f"u{n},i{n % 50}\n" for n in range(others)) + "".join(f"0,i{n % 50}\n" for n in range(big))
    doubts = read(text, 1, 2, None).reading.doubts
    assert [f"the user '0' has {share:.1%} of all interactions, which is implausible" in doubt for doubt in doubts] == [
        True
    ] * said


@pytest.mark.parametrize(("share", "said"), [(0.15, False), (0.25, True)])
def test_an_item_of_an_implausible_share_is_named(read, share, said) -> None:
    big = round(1000 * share / (1 - share))
    text = "".join(f"u{n % 50},i{n}\n" for n in range(1000)) + "".join(f"u{n % 50},hit\n" for n in range(big))
    doubts = read(text, 1, 2, None).reading.doubts
    assert [f"the item 'hit' has {share:.1%}" in doubt for doubt in doubts] == [True] * said


def test_small_logs_have_large_shares(read) -> None:
    assert read("a,x\na,y\nb,x\n", 1, 2, None).reading.doubts == ()
    assert (
        read("".join(f"{user},{item}\n" for user in "abcdefgh" for item in "1234567"), 1, 2, None).reading.doubts == ()
    )


def test_the_largest_user_and_item_are_known(read) -> None:
    log = read("a,x\na,y\nb,x\na,x\n", 1, 2, None)
    assert log.reading.largest == (
        "largest user 'a': 3 interactions, 75.0%",
        "largest item 'x': 3 interactions, 75.0%",
    )


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_text_of_parquet_that_is_not_utf_8_is_refused_by_its_row(read, column) -> None:
    bad = pa.array([b"ok", b"ok", b"caf\xe9", b"ok"], pa.binary()).view(pa.string())
    good = pa.array(["a", "b", "c", "d"])
    table = pa.table({"user_id": bad if column == "user_id" else good, "item_id": bad if column == "item_id" else good})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    with pytest.raises(UserError, match=f"row 3 has an? {column[:4]} that is not UTF-8 text"):
        read(sink.getvalue().to_pybytes(), "user_id", "item_id", None)


def test_a_long_id_costs_its_own_length_only(read) -> None:
    long = "x" * 100_000
    log = read("".join(f"u{n % 9},i{n}\n" for n in range(30_000)) + f"u1,{long}\n", 1, 2, None)
    assert log.tokens.nbytes < 2**20  # as text of one width it would be 12 GB
    assert log.tokens.take(log.items[-1:]).to_pylist() == [long]


def test_ids_are_numbered_in_the_order_of_their_tokens(read) -> None:
    log = read("b,10\na,9\nb,ü\n", 1, 2, None)
    assert log.tokens.to_pylist() == ["10", "9", "ü"]
    assert log.users.tolist() == [1, 0, 1] and log.users.dtype == log.items.dtype == np.int32
