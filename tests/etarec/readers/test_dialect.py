"""Encoding, ends of lines, separator, quotes and first line are told by the content, whatever the file is called."""

import codecs
import itertools

import pytest

from etarec.config import UserError

NAMED = "user_id,item_id,timestamp\na,x y,1\nb,x y,2\na,z,3\n"
BARE = "a,x y,1\nb,x y,2\na,z,3\n"
EXPECTED = [(0, "x y", 1), (1, "x y", 2), (0, "z", 3)]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.dat", "log.data", "log.txt", "log"])
def test_the_separator_is_guessed_from_the_content_and_not_from_the_name(read, rows, separator, name) -> None:
    assert rows(read(NAMED.replace(",", separator), name=name)) == EXPECTED
    assert rows(read(BARE.replace(",", separator), 1, 2, 3, name=name)) == EXPECTED


@pytest.mark.parametrize(
    "bare", ["1 a 5\n2 b 6\n1 c 7\n", "  1   a\t 5\n2  b  6  \n1 c 7", "1\ta  5\r\n2 b 6\r\n1 c 7\r\n"]
)
def test_runs_of_blanks_separate_values_where_nothing_else_does(read, rows, bare) -> None:
    assert rows(read(bare, 1, 2, 3)) == [(0, "a", 5), (1, "b", 6), (0, "c", 7)]


def test_a_decimal_comma_and_a_comma_in_a_title_are_no_separators(read, rows) -> None:
    assert rows(read("a;2,5;x\nb;3,5;y\n", 1, 3, None)) == [(0, "x"), (1, "y")]
    assert rows(read("a\t2,5\nb\t3,5\n", 1, 2, None)) == [(0, "2,5"), (1, "3,5")]
    assert rows(read("a::Heat, The::1\nb::Up::2\n", 1, 2, 3)) == [(0, "Heat, The", 1), (1, "Up", 2)]


def test_the_separator_that_makes_the_configured_names_wins(read, rows) -> None:
    text = "note,note,note;user_id;item_id\n1,2,3;a;x\n1,2,3;b;y\n"
    assert rows(read(text, "user_id", "item_id", None)) == [(0, "x"), (1, "y")]


def test_a_given_separator_is_used(read, rows) -> None:
    assert rows(read("a~~x\nb~~y\n", 1, 2, None, separator="~~")) == [(0, "x"), (1, "y")]
    assert rows(read("a\tx,1\nb\ty,1\n", 1, 2, None, separator="\\t")) == [(0, "x,1"), (1, "y,1")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", "::", " "])
def test_every_end_of_line_is_read(read, rows, end, separator) -> None:
    text = BARE.replace("x y", "xy").replace(",", separator).replace("\n", end)
    assert rows(read(text, 1, 2, 3)) == [(0, "xy", 1), (1, "xy", 2), (0, "z", 3)]
    assert rows(read(text.removesuffix(end), 1, 2, 3)) == [(0, "xy", 1), (1, "xy", 2), (0, "z", 3)]


SEPARATORS = [",", ";", "\t", "|", "::", " "]


def mixed(separators: list[str], count: int = 500) -> str:
    """Lines with these separators, the last of which goes on."""
    given = [*separators, *[separators[-1]] * (count - len(separators))]
    return "".join(f"u{n % 5},i{n % 7},{n}\n".replace(",", separator) for n, separator in enumerate(given))


@pytest.mark.parametrize(("separator", "other"), list(itertools.permutations(SEPARATORS, 2)))
def test_a_line_with_another_separator_is_named(read, separator: str, other: str) -> None:
    text = mixed([*[separator] * 400, other, separator])
    if separator == " " and other == "\t":  # both are blanks
        assert len(read(text, 1, 2, 3).items) == 500
        return
    with pytest.raises(UserError, match="Row #401: Expected 3 columns, got 1: ") as error:
        read(text, 1, 2, 3)
    assert f"; the line has {other!r} where others have {separator!r}; expected" in str(error.value)


def test_first_lines_with_different_separators_are_shown(read) -> None:
    with pytest.raises(UserError, match=r"no separator cuts .* such as 'u0;i0;0' and 'u1,i1,1'; expected data\.sep"):
        read(mixed([";", ","]), 1, 2, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", "::"])
def test_every_unicode_encoding_is_guessed(read, rows, encoding, separator) -> None:
    text = "user_id,item_id\nä,naïve\nb,日本\n".replace(",", separator)
    log = read(text.encode(encoding), "user_id", "item_id", None)
    assert rows(log) == [(1, "naïve"), (0, "日本")]
    assert log.reading.doubts == ()


def test_bytes_that_are_not_utf_8_are_latin_1_and_that_is_said(read, rows) -> None:
    log = read("a,naïve\nb,é\n".encode("latin-1"), 1, 2, None)
    assert rows(log) == [(0, "naïve"), (1, "é")]
    assert "was read as Latin-1; data.encoding names another" in log.reading.doubts[0]
    assert rows(read("a,х\nb,ж\n".encode("cp1251"), 1, 2, None, encoding="cp1251")) == [(0, "х"), (1, "ж")]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("a,é\n".encode("latin-1"), {"encoding": "utf-8"}, r"cannot be read as text in utf-8 \(data.encoding\)"),
        (b"a,x\n", {"encoding": "klingon"}, "data.encoding: given 'klingon', expected an encoding such as utf-8"),
        (
            b"a,x\n" * 99999 + "b,é\n".encode("latin-1"),
            {},
            "not in the encoding of its beginning.*latin-1 reads any|UTF8",
        ),
        (b"a\nb\n", {}, "no separator cuts the first lines .* such as 'a' and 'b'; expected data.separator"),
    ],
)
def test_text_that_cannot_be_read_is_refused(read, content, fields, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(content, 1, 2, None, **fields)
    assert "log.txt" in str(error.value) or "data.encoding" in str(error.value)


def test_quotes_surround_values_of_tabs_only_where_all_are_closed(read, rows) -> None:
    assert rows(read('user_id\titem_id\n"a"\t"x ""1"""\n"b"\t"y"\n', "user_id", "item_id", None)) == [
        (0, 'x "1"'),
        (1, "y"),
    ]
    assert rows(read('user_id\titem_id\na\t"7 inch\nb\ty\n', "user_id", "item_id", None)) == [(0, '"7 inch'), (1, "y")]


def test_a_first_line_of_names_is_told_from_an_interaction(read, rows) -> None:
    assert rows(read("who,what,when\na,x,1\nb,y,2\n", 1, 2, 3)) == [(0, "x", 1), (1, "y", 2)]
    dated = "a,x,1970-01-01\nb,y,1970-01-02\n"
    assert rows(read(f"who,what,bought_at\n{dated}", 1, 2, 3)) == [(0, "x", 0), (1, "y", 86400)]
    assert rows(read("user,item\na,x\nb,y\n", 1, 2, None)) == [(0, "x"), (1, "y")]
    assert rows(read("who,what\na,x\nb,y\n", 1, 2, None)) == [(2, "what"), (0, "x"), (1, "y")]
    assert rows(read("who,what\na,x\nb,y\n", 1, 2, None, header=True)) == [(0, "x"), (1, "y")]
    assert rows(read("user,item\na,x\n", 1, 2, None, header=False)) == [(1, "item"), (0, "x")]


def test_a_first_date_that_cannot_be_read_is_no_name(read) -> None:
    with pytest.raises(UserError, match=r"line 1.*1970-01-01 \(late\)"):
        read("c,z,1970-01-01 (late)\na,x,1970-01-01\nb,y,1970-01-02\n", 1, 2, 3)


def test_an_interaction_taken_for_names_is_said(read) -> None:
    log = read("196\t242\t3\n186\t302\t3\n", "196", "242", None)
    assert (
        "the first line ('196', '242', '3') was taken for names but looks like an interaction" in log.reading.doubts[0]
    )
    assert read("196\t242\t3\n186\t302\t3\n", 1, 2, None).reading.doubts == ()


def test_a_file_without_names_is_told_how_to_be_read(read) -> None:
    with pytest.raises(
        UserError, match=r"'user_id' .* is missing; the columns are '1', '2'; if the first line is an .*user: 1"
    ):
        read("1,2\n3,4\n", "user_id", "item_id", None)
    with pytest.raises(UserError, match=r"column 7 \(data.columns.item\) is missing; the file has 2 columns"):
        read("1,2\n3,4\n", 1, 7, None)


def test_lines_are_counted_from_the_first_of_the_file(read) -> None:
    with pytest.raises(UserError, match="line 2 has no user"):
        read("a,x\n,y\n", 1, 2, None)
    with pytest.raises(UserError, match="line 3 has no user"):
        read("user,item\na,x\n,y\n", 1, 2, None)


def test_a_line_longer_than_the_limit_is_refused(read) -> None:
    with pytest.raises(UserError, match="a line is longer than 4 MiB"):
        read(b"a::x\nb::y\n" + b"z" * 2**23, 1, 2, None)


def test_a_byte_order_mark_is_no_part_of_the_first_value(read, rows) -> None:
    for mark in (codecs.BOM_UTF8, b""):
        assert rows(read(mark + b"a,x\nb,y\n", 1, 2, None)) == [(0, "x"), (1, "y")]


def test_a_later_byte_of_another_encoding_is_refused_in_a_file_of_another_separator(read) -> None:
    with pytest.raises(UserError, match=r"not in the encoding of its beginning: .*latin-1 reads any"):
        read(b"a::x\n" * 99999 + "b::é\n".encode("latin-1"), 1, 2, None)


def test_lines_joined_by_a_quote_that_nothing_closes_are_refused_or_said(read) -> None:
    with pytest.raises(UserError, match="cannot be read as text: "):
        read('a,"x\n' + "b,y\n" * 999_999, 1, 2, None)
    log = read('a,"x\nb,y\nc,z"\nd,w\n' + "e,w\n" * 9, 1, 2, None)
    assert (
        "1 id of the column item holds an end of line, such as 'x\\nb,y\\nc,z'; a quote that nothing closes"
        in log.reading.doubts[1]
    )
