"""Rows kept by the value of a column."""

import json

import pytest

from etarec.config import UserError

TEXT = "u,i,t,event,rating\na,x,1,view,5\na,y,2,purchase,3.5\nb,x,3,cart,\nb,z,4,purchase,4.0\n"


def kept(rows, log) -> list[float]:
    return [time for _, _, time in rows(log)]


@pytest.mark.parametrize("names", ["event", "4"])
def test_rows_are_kept_by_value(read, rows, names) -> None:
    text = TEXT if names == "event" else TEXT.partition("\n")[2]
    columns = ("u", "i", "t") if names == "event" else (1, 2, 3)
    log = read(text, *columns, where={names: ("purchase", "cart")})
    assert kept(rows, log) == [2, 3, 4]
    assert log.reading.dropped == ("1 of 4 rows (data.where and data.at_least)",)


def test_rows_are_kept_by_number(read, rows) -> None:
    assert kept(rows, read(TEXT, "u", "i", "t", at_least={"rating": 4})) == [1, 4]
    assert kept(rows, read(TEXT, "u", "i", "t", at_least={"rating": 3.5}, where={"event": ("purchase",)})) == [2, 4]
    assert kept(rows, read(TEXT, "u", "i", "t", where={"rating": (5, 4)})) == [1, 4]


def test_a_column_may_be_read_and_filtered_by(read, rows) -> None:
    assert kept(rows, read(TEXT, "u", "i", "t", where={"u": ("b",)}, at_least={"t": 4})) == [4]


def test_json_values_of_every_type_are_compared(read, rows) -> None:
    objects = [
        {"u": 1, "i": 1, "t": 1, "e": True},
        {"u": 1, "i": 2, "t": 2, "e": False},
        {"u": 1, "i": 2, "t": 3, "e": None},
    ]
    text = "".join(json.dumps(one) + "\n" for one in objects)
    assert kept(rows, read(text, "u", "i", "t", where={"e": (True,)})) == [1]
    assert kept(rows, read(text, "u", "i", "t", where={"i": (2,)})) == [2, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"where": {"event": ("buy",)}},
            r"no row has one of 'buy' in the column 'event' \(data.where\); it has 'view', 'purchase",
        ),
        ({"where": {"evnt": ("buy",)}}, r"column 'evnt' \(data.where.evnt\) is missing; the columns are 'u'"),
        ({"at_least": {"event": 1}}, r"line 2 has 'view' in the column 'event'; expected a number \(data.at_least\)"),
        ({"at_least": {"rating": 9}}, "data.where and data.at_least together keep none of the 4 rows"),
    ],
)
def test_a_filter_that_cannot_keep_rows_is_refused(read, fields, message) -> None:
    with pytest.raises(UserError, match=message):
        read(TEXT, "u", "i", "t", **fields)


def test_a_faulty_row_is_named_by_its_line_behind_filters(read) -> None:
    text = "u,i,t,event\na,x,,view\na,y,,buy\na,z,3,buy\n,z,3,buy\n"
    with pytest.raises(UserError, match="line 3 has no timestamp"):
        read(text, "u", "i", "t", where={"event": ("buy",)})
    with pytest.raises(UserError, match="line 5 has no user"):
        read(text, "u", "i", "t", where={"event": ("buy",)}, drop=("missing_time",))


@pytest.mark.parametrize("word", ["NA", "nan", "null", " "])
def test_a_missing_number_is_not_kept(read, rows, word) -> None:
    text = f"u,i,t,rating\na,x,1, 5\na,y,2,{word}\na,z,3,1e1\na,z,4,-7\n"
    assert kept(rows, read(text, "u", "i", "t", at_least={"rating": 4})) == [1, 3]


def test_items_in_cells_can_be_filtered_by(read, rows) -> None:
    text = "u,items,t\na,x y,1\nb,z,2\n"
    assert kept(rows, read(text, "u", "items", "t", list_separator=" ", where={"items": ("z", "y")})) == [1, 2]
