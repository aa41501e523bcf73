"""One user a line, lists in cells, JSON lines and columns of lists give the same log as one interaction a line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from etarec.config import UserError

FLAT = [{"u": "a", "i": 1, "t": 10}, {"u": "b", "i": 2, "t": 20}, {"u": "a", "i": 3, "t": 30}]
EXPECTED = [(0, "1", 10), (1, "2", 20), (0, "3", 30)]
SESSIONS = [
    {"session": 7, "events": [{"aid": 5, "ts": 1, "type": "clicks"}, {"aid": 6, "ts": 2, "type": "carts"}]},
    {"session": 8, "events": []},
    {"session": 9, "events": [{"aid": 5, "ts": 3, "type": "clicks"}]},
]
EVENTS = [(0, "5", 1), (0, "6", 2), (1, "5", 3)]
COLUMNS = ("session", "events.aid", "events.ts")


def lines(objects: list[dict[str, object]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def feather(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.feather.write_feather(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("separator", [" ", ",", "\t", "::", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_one_user_a_line(read, rows, separator, end) -> None:
    text = f"b 3 1 2{end}{end}a 3{end}c{end}".replace(" ", separator)
    assert rows(read(text, 1, "2-", None)) == [(1, "3"), (1, "1"), (1, "2"), (0, "3")]


def test_one_user_a_line_in_many_blocks_of_the_file(read) -> None:
    text = "".join(f"{user} " + " ".join(map(str, range(200))) + "\n" for user in range(5000))
    log = read(text, 1, "2-", None)
    assert len(text) > 2**21 and len(log.items) == 1_000_000
    assert (log.users.reshape(5000, 200) == log.users[::200, None]).all()
    assert log.tokens.take(log.items[-200:]).to_pylist() == [str(item) for item in range(200)]


def test_a_cell_of_items(read, rows) -> None:
    text = "user\tclicks\twhen\na\tx y x\t1\nb\t\t2\nc\tz\t3\n"
    log = read(text, "user", "clicks", "when", list_separator=" ")
    assert rows(log) == [(0, "x", 1), (0, "y", 1), (0, "x", 1), (1, "z", 3)]
    both = "u,items,times\na,x|y,1|2\nb,z,3\n"
    assert rows(read(both, "u", "items", "times", list_separator="|")) == [(0, "x", 1), (0, "y", 2), (1, "z", 3)]


@pytest.mark.parametrize(
    "packed", [lines(FLAT), "\n" + lines(FLAT).rstrip(), "\ufeff" + lines(FLAT).replace("\n", "\r\n")]
)
def test_flat_json_lines(read, rows, packed) -> None:
    assert rows(read(packed, "u", "i", "t")) == EXPECTED


def test_json_lines_in_many_blocks(read) -> None:
    text = "".join(
        json.dumps({"u": f"user {n % 1000}", "review": "long " * 20, "i": n % 77}) + "\n" for n in range(20_000)
    )
    log = read(text, "u", "i", None)
    assert len(text) > 2**21
    assert log.tokens.take(log.items).to_pylist() == [str(n % 77) for n in range(20_000)]


@pytest.mark.parametrize(
    "content", [lines(SESSIONS), parquet(pa.Table.from_pylist(SESSIONS)), feather(pa.Table.from_pylist(SESSIONS))]
)
def test_a_list_of_events(read, rows, content) -> None:
    assert rows(read(content, *COLUMNS)) == EVENTS
    assert rows(read(content, *COLUMNS, where={"events.type": ("clicks",)})) == [(0, "5", 1), (1, "5", 3)]


@pytest.mark.parametrize("write", [parquet, feather])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_columns_of_lists(read, rows, write, kind) -> None:
    table = pa.table(
        {
            "user": ["a", "b", "c", "d"],
            "items": pa.array([[1, 2], [], None, [1]], kind(pa.int64())),
            "times": pa.array([[5, 6], [], None, [7]], kind(pa.int64())),
        }
    )
    assert rows(read(write(table), "user", "items", "times")) == [(0, "1", 5), (0, "2", 6), (1, "1", 7)]


def test_columns_inside_structs(read, rows) -> None:
    content = lines([{"who": {"id": "a", "name": "A"}, "what": {"id": "x"}}, {"who": {"id": "b"}, "what": {"id": "y"}}])
    assert rows(read(content, "who.id", "what.id", None)) == [(0, "x"), (1, "y")]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            lines(SESSIONS),
            ("session", "events.id", None),
            r"'events.id' \(data.columns.item\) is missing; .*'events.aid'",
        ),
        (lines(FLAT) + '{"u": "a",\n', ("u", "i", "t"), "line 4 cannot be read as JSON"),
        (
            lines(FLAT) + '{"u": "a", "i": "x", "t": 1}\n',
            ("u", "i", "t"),
            r"line 4 cannot be read as JSON: .*Column\(/i\) changed from",
        ),
        (
            b'{"u": "a", "i": "caf\xe9"}\n',
            ("u", "i", None),
            r"not in the encoding of its beginning: .* expected one encoding$",
        ),
        (json.dumps(FLAT, indent=2), ("u", "i", "t"), "one JSON list, expected JSON lines, one object a line; `jq -c"),
        (json.dumps(FLAT), ("u", "i", "t"), "one JSON list, expected JSON lines, one object a line; `jq -c"),
        ("{'u': 'a', 'i': 1}\n", ("u", "i", None), "the lines are Python literals, expected JSON"),
        ("{u'u': 'a', 'i': 1}\n", ("u", "i", None), "the lines are Python literals, expected JSON"),
        (
            parquet(pa.table({"u": ["a"], "i": [[1, 2]], "t": [[1]]})),
            ("u", "i", "t"),
            "a row has 2 values of item and 1 of timestamp; expected lists of the same length",
        ),
        (parquet(pa.table({"u": ["a"], "i": [1]})), ("u", "u", None), "data.columns.item names 'u' again"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(read, content, columns, message) -> None:
    with pytest.raises(UserError, match=message):
        read(content, *columns)


def test_a_missing_value_in_lists_is_named_as_an_interaction(read) -> None:
    with pytest.raises(UserError, match="interaction 2 has no item"):
        read(parquet(pa.table({"u": ["a"], "i": [["x", None]]})), "u", "i", None)


def test_a_line_of_json_is_named(read, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2 has no item"):
        read(lines([{"u": "a", "i": "x"}, {"u": "a", "i": None}]), "u", "i", None)


def test_separators_behind_the_last_item_and_padding_are_no_items(read, rows) -> None:
    assert rows(read("a,x,y,,\nb,z,,,\nc,,,,\n", 1, "2-", None)) == [(0, "x"), (0, "y"), (1, "z")]
    assert rows(read("a x y \nb z\n", 1, "2-", None)) == [(0, "x"), (0, "y"), (1, "z")]


@pytest.mark.parametrize("write", [parquet, feather])
def test_text_written_as_views_is_read(read, rows, write) -> None:
    views = pa.array(["x", "a text of more than twelve characters"], pa.string_view())
    table = pa.table({"u": views, "i": views, "l": pa.array([["y"], ["z"]], pa.list_(pa.string_view()))})
    assert rows(read(write(table), "u", "l", None)) == [(1, "y"), (0, "z")]
    assert rows(read(write(table), "l", "i", None)) == [(0, "x"), (1, "a text of more than twelve characters")]


def test_a_bad_line_behind_many_blocks_is_named_by_its_number(read) -> None:
    many = json.dumps({"u": "a", "i": "x" * 50}) + "\n"
    assert len(many) * 40_000 > 2**21
    with pytest.raises(UserError, match="line 40001 cannot be read as JSON"):
        read(many * 40_000 + "{]\n" + many, "u", "i", None)
