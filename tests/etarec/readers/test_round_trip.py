"""Made-up logs in every dialect: what is written is read, whatever the ids are."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec import readers
from etarec.config import ColumnsConfig, DataConfig

PLAIN = st.text("abcXYZ019._-é日", min_size=1, max_size=6)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=6)
TIMES = st.integers(-(10**6), 10**10)


def logs(ids: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str, int]]]:
    return st.lists(st.tuples(ids, ids, TIMES), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


def found(folder: Path, content: bytes, **fields: Any) -> list[tuple[int, str, float]]:
    """The rows that are read: the user's code, the item and the time."""
    (folder / "log").write_bytes(content)
    log = readers.read(DataConfig(path=str(folder / "log"), **fields))
    assert log.times is not None
    return list(zip(log.users.tolist(), log.tokens.take(log.items).to_pylist(), log.times.tolist(), strict=True))


def expected(rows: list[tuple[str, str, int]]) -> list[tuple[int, str, float]]:
    codes = {user: code for code, user in enumerate(sorted({user for user, _, _ in rows}, key=str.encode))}
    return [(codes[user], item, time) for user, item, time in rows]


@given(
    rows=logs(PLAIN),
    separator=st.sampled_from([",", "\t", ";", "|", "::", " ", "   "]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    packed=st.booleans(),
    named=st.booleans(),
    last=st.booleans(),
)
def test_delimited_text(folder: Path, rows, separator, end, encoding, packed, named, last) -> None:
    lines = [separator.join(map(str, row)) for row in rows]
    text = end.join([*([separator.join(["who", "what", "when"])] if named else []), *lines]) + end * last
    columns = ("who", "what", "when") if named else (1, 2, 3)
    config = ColumnsConfig(**dict(zip(("user", "item", "timestamp"), columns, strict=True)))
    content = text.encode(encoding)
    header = None if named else False
    given_encoding = encoding if encoding == "utf-16-le" else None  # without a mark, a few letters do not tell
    read = found(
        folder, gzip.compress(content) if packed else content, columns=config, header=header, encoding=given_encoding
    )
    assert read == expected(rows)


@given(rows=logs(ANY), separator=st.sampled_from([",", ";", "|"]))
def test_quoted_text(folder: Path, rows, separator) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows([("user_id", "item_id", "timestamp"), *rows])
    assert found(folder, file.getvalue().encode(), separator=separator) == expected(rows)


@given(rows=logs(ANY))
def test_json_lines_and_parquet(folder: Path, rows) -> None:
    names = ("user_id", "item_id", "timestamp")
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    lines = "".join(json.dumps(one, ensure_ascii=len(rows) % 2 == 0) + "\n" for one in objects)
    assert found(folder, lines.encode()) == expected(rows)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pylist(objects), sink)
    assert found(folder, sink.getvalue().to_pybytes()) == expected(rows)
