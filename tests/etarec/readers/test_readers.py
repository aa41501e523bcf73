"""Every format gives the same log; a log that cannot be read gives one message that names the fault."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from etarec import readers
from etarec.config import ColumnsConfig, DataConfig, UserError
from etarec.readers import Log

ROWS = [("007", "b", 30), ("7", "NA", 10), ("007", "ü", 20)]
CSV = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)
TSV = CSV.replace(",", "\t")
INTER = TSV.replace("user_id\titem_id\ttimestamp", "user_id:token\titem_id:token\ttimestamp:float")


def read(path: Path, **fields: Any) -> Log:
    return readers.read(DataConfig(path=str(path), **fields))


def items(log: Log) -> list[str]:
    return log.tokens.take(log.items).to_pylist()


def check(log: Log) -> None:
    assert log.users.tolist() == [0, 1, 0]  # ids are text: 007 is not 7
    assert items(log) == ["b", "NA", "ü"]
    assert log.times is not None
    assert log.times.tolist() == [30, 10, 20]


@pytest.mark.parametrize(("suffix", "text"), [(".csv", CSV), (".tsv", TSV), (".inter", INTER), (".INTER", INTER)])
@pytest.mark.parametrize("packed", [False, True])
def test_text_formats(tmp_path: Path, suffix: str, text: str, packed: bool) -> None:
    path = tmp_path / f"log{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    check(read(path))


def test_parquet(tmp_path: Path) -> None:
    pd.DataFrame(ROWS, columns=["user_id", "item_id", "timestamp"]).to_parquet(tmp_path / "log.parquet")
    check(read(tmp_path / "log.parquet"))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.rstrip("\n"),
        'review,timestamp,"user_id",item_id\n"two\nlines, ""quoted""",30,007,b\n"",10,7,NA\nx,20,"007",ü\n\n',
    ],
    ids=["byte-order mark", "Windows lines", "no last line end", "other columns"],
)
def test_csv_dialects(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text, encoding="utf-8", newline="")
    check(read(tmp_path / "log.csv"))


def test_quotes_are_ordinary_characters_in_tab_separated_files(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text('user_id\titem_id\ttimestamp\nu\t"7 inch\t1\nu\tb\t2\n')
    assert read(tmp_path / "log.tsv").tokens.tolist() == ['"7 inch', "b"]


def test_column_names_are_configurable(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what,when\na,x,1\n")
    log = read(tmp_path / "log.csv", columns=ColumnsConfig(user="who", item="what", timestamp="when"))
    assert log.tokens.tolist() == ["x"]
    assert read(tmp_path / "log.csv", columns=ColumnsConfig(user="who", item="what", timestamp=None)).times is None


def test_integer_ids_of_parquet_are_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [2, 10, 2], "item_id": pd.Categorical(["b", "a", "b"]), "timestamp": [1, 2, 3]})
    frame.to_parquet(tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet")
    assert log.users.tolist() == [1, 0, 1]
    assert items(log) == ["b", "a", "b"]


def test_a_file_of_several_parser_blocks_is_one_log(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.integers(0, 5000, (150_000, 3)), columns=["user_id", "item_id", "timestamp"])
    frame.to_csv(tmp_path / "log.csv", index=False)  # about 2 MB: more than one block of the parser
    log = read(tmp_path / "log.csv")
    assert list(map(int, items(log))) == frame["item_id"].tolist()
    assert log.times is not None
    assert log.times.tolist() == frame["timestamp"].tolist()


def test_a_quoted_field_may_span_two_parser_blocks(tmp_path: Path) -> None:
    review = '"' + "line\n" * 50 + '"'
    text = "user_id,review,item_id\n" + "".join(f"u,{review},i{n:05}\n" for n in range(9000))  # 2 MB: three blocks
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    log = read(tmp_path / "log.csv", columns=ColumnsConfig(timestamp=None))
    assert log.items.tolist() == list(range(9000))


@pytest.mark.parametrize(
    "times",
    [
        ["2024-02-29", "2024-03-01", "1969-12-31"],
        ["2024-02-29T00:00:00", "2024-03-01 00:00:00.000", "1969-12-31 00:00"],
        ["2024-02-29T01:00:00+01:00", "2024-03-01T00:00:00Z", "1969-12-31T00:00:00Z"],
    ],
)
def test_dates_become_seconds(tmp_path: Path, times: list[str]) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,i,{time}\n" for time in times))
    log = read(tmp_path / "log.csv")
    assert log.times is not None
    assert log.times.tolist() == [1_709_164_800, 1_709_251_200, -86_400]


def test_dates_of_parquet_become_seconds(tmp_path: Path) -> None:
    ids = pa.array(["a", "b"])
    seconds = pa.array([1_709_164_800, 0])
    moments = seconds.cast(pa.timestamp("s"))
    kinds = [pa.timestamp("s"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns"), pa.date32()]
    for times in [seconds, seconds.cast(pa.float64()), *(moments.cast(kind) for kind in kinds)]:
        table = pa.table({"user_id": ids, "item_id": ids, "timestamp": times})
        pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
        log = read(tmp_path / "log.parquet")
        assert log.times is not None
        assert log.times.tolist() == [1_709_164_800, 0]


HEAD = b"user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "the file is empty; expected an interaction log"),
        ("log.csv", HEAD, "holds no interactions; expected .* at least one row"),
        ("log.csv", HEAD + b"u,%b,1\nu,i,2\n" % (b"x" * 2**20), "the line behind the names is longer than 256 KiB"),
        (
            "log.csv",
            HEAD + b"u,i,1\nu,%b,2\n" % (b"x" * 2**22),
            "as text: a line is longer than 1 MiB; expected shorter",
        ),
        ("log.csv", HEAD.rstrip(), "holds no interactions; expected .* at least one row"),
        ("log.csv", b"\n" + HEAD, "the first line is empty, expected the names of the columns"),
        (
            "log.csv",
            b"user,item_id,timestamp\n",
            r"column 'user_id' \(data.columns.user\) is missing; .* 'user', 'item",
        ),
        ("log.csv", b"user_id,item_id,user_id,timestamp\n", "column 'user_id' .* appears more than once"),
        ("log.csv", HEAD + b"a,x,1\n,y,2\n", "line 3 has no user"),
        ("log.csv", HEAD + b'a,x,1\na,"",2\n', "line 3 has no item"),
        ("log.csv", HEAD + b"a,x,1\na,y,\n", "line 3 has no timestamp; .*missing_time"),
        ("log.csv", HEAD + b"a,x,1\na,y,2\na,z,soon\na,z,4\n", "line 4 has the timestamp 'soon'; expected a number"),
        ("log.csv", HEAD + b"a,x,2024-01-01\na,y,2024-01-32\n", "line 3 has the timestamp '2024-01-32'; expected"),
        ("log.csv", HEAD + b"a,x,soon\n", "line 2 has the timestamp 'soon'; expected"),
        ("log.csv", HEAD + b"a,x,1\na,y,nan\n", "line 3 has the timestamp nan; expected a finite number"),
        ("log.csv", HEAD + b"a,x,1\na,y\n", "cannot be read as text.*Row #3: Expected 3 columns, got 2"),
        ("log.csv", bytes(range(256)) * 9, "cannot be read as text"),
        ("log.csv", b"a\0b,c\n", "cannot be read as text.*binary"),
        ("log.csv", gzip.compress(HEAD, mtime=0), "holds no interactions"),
        ("log.csv.gz", HEAD, "holds no interactions"),
        ("log.csv.gz", gzip.compress(HEAD, mtime=0)[:-9], "cannot be read as a log: Compressed file ended"),
        (
            "log.csv.gz",
            gzip.compress(HEAD + b"a,x,1\n" * 99999, mtime=0)[:-30],
            "cannot be read as text: Compressed file ended",
        ),
        ("log.parquet", b"PAR1" + bytes(99), "cannot be read as Parquet"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_corrupted_gzip_file_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(HEAD + os.urandom(50_000).hex().encode().join([b"a,x,", b"\n"])))
    packed[len(packed) // 2] ^= 255
    (tmp_path / "log.csv.gz").write_bytes(packed)
    with pytest.raises(UserError, match="cannot be read as a log: CRC check failed"):
        read(tmp_path / "log.csv.gz", columns=ColumnsConfig(timestamp=None))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="the folder holds no file"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, None, 2], "row 2 has no user"),
        ("user_id", [1.0, 2.0, float("nan")], "row 3 has no user"),
        ("item_id", ["a", "b", ""], "row 3 has no item"),
        ("item_id", [{"a": 1}] * 3, "the item column is of type struct<.*expected text or integer ids"),
        ("timestamp", [1.0, None, 3.0], "row 2 has no timestamp"),
    ],
)
def test_bad_values_in_parquet_are_refused(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    columns = {"user_id": ["a"] * 3, "item_id": ["x"] * 3, "timestamp": [1, 2, 3], column: values}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "log.parquet")


def test_two_keys_cannot_name_the_same_column(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(CSV, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"data.columns.item names 'user_id' again; expected a column that no other key names"
    ):
        read(tmp_path / "log.csv", columns=ColumnsConfig(item="user_id"))
