"""Delimited text read into tables, by Arrow's parser: a column per value, or lists of items in a cell or a line."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from etarec.config import DataConfig, UserError
from etarec.readers import columns
from etarec.readers.columns import Wanted
from etarec.readers.dialect import BLANK, Dialect, dialect
from etarec.readers.lines import UNIT, as_is, chunks, stream, unit
from etarec.readers.lists import exploded
from etarec.readers.source import HEAD_BYTES, Source

TEXT_CODES = pa.dictionary(pa.int32(), pa.string())
_NO_HEADER = "; if the first line is an interaction, name columns by their numbers, such as columns: {user: 1, item: 2}"
_STRADDLING = "a line is longer than 1 MiB; expected shorter ones, and a closing quote for each that begins a value"
_NOT_UTF8 = "; expected UTF-8, or data.encoding, such as latin-1"


def dialect_of(source: Source, config: DataConfig, wanted: Wanted) -> Dialect:
    """The dialect of a text file."""
    head = source.head()
    return dialect(head, config, wanted, source.name, whole=len(head) < HEAD_BYTES)


def read(source: Source, found: Dialect, config: DataConfig, wanted: Wanted) -> pa.Table:
    """The wanted columns of a text file, under their keys: ids and filters as dictionaries, timestamps as text.

    Raises UserError for a line that has another number of values than the first, or whose text is not UTF-8.
    """
    hint = "" if columns.by_number(wanted) else _NO_HEADER
    places = columns.choose(source.name, found.names, wanted, hint)
    rest = next((key for key, name in wanted.items() if columns.is_rest(name)), None)
    if rest is not None:
        return pa.concat_tables(list(_lines_of_items(source, found, places, rest)))
    if config.list_separator is not None:
        return pa.concat_tables(list(_cells_of_items(source, found, config.list_separator, places)))
    return _keyed(_parse(source, found, places, threads=True), places)


def has_lists(config: DataConfig, wanted: Wanted) -> bool:
    """Whether a line of the file holds several interactions."""
    return config.list_separator is not None or any(map(columns.is_rest, wanted.values()))


def _parse(source: Source, found: Dialect, places: dict[str, int], threads: bool) -> pa.Table:
    faults: list[pa.csv.InvalidRow] = []
    options = _options(found, places, faults)
    opened = source.path if as_is(found) and "://" not in source.path and not source.packing() else None
    content = opened or pa.PythonFile(stream(source, found), mode="r")
    options["read_options"].use_threads = threads
    try:
        return pa.csv.read_csv(content, **options)
    except pa.ArrowInvalid as error:
        if threads:
            return _parse(source, found, places, threads=False)  # raises the same error, and names the row
        raise UserError(_fault(source, found, faults, error)) from error


def _options(
    found: Dialect, places: dict[str, int], faults: "list[pa.csv.InvalidRow]", text: tuple[str, ...] = ("timestamp",)
) -> dict[str, Any]:
    """Options of Arrow's parser, in which columns are named by their position. text: keys not read as dictionaries."""

    def collect(row: pa.csv.InvalidRow) -> str:
        faults.append(row)
        return "error"

    types = dict.fromkeys(map(str, places.values()), TEXT_CODES)
    types |= {str(places[key]): pa.string() for key in text if key in places}
    return {
        "read_options": pa.csv.ReadOptions(
            column_names=[str(place) for place in range(len(found.names))], skip_rows=int(found.header)
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=unit(found),
            quote_char='"' if found.quoted else False,
            newlines_in_values=found.quoted,
            invalid_row_handler=collect,
        ),
        "convert_options": pa.csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
        ),
    }


def _keyed(table: pa.Table, places: dict[str, int]) -> pa.Table:
    return pa.table({key: table[str(place)] for key, place in places.items()})


def _fault(source: Source, found: Dialect, faults: "list[pa.csv.InvalidRow]", error: pa.ArrowInvalid) -> str:
    """The message for a text that Arrow's parser refused."""
    if faults:
        return _uneven(source, found, faults[0])
    reason = str(error).splitlines()[0]
    if "straddling" in reason:
        reason = _STRADDLING
    return f"{source.name}: cannot be read as text: {reason}{_NOT_UTF8 if 'UTF8' in reason else ''}"


def _uneven(source: Source, found: Dialect, row: "pa.csv.InvalidRow") -> str:
    line = row.text.replace(UNIT, found.separator)
    known = (",", ";", "\t", "|", "::", " ")
    others = [s for s in known if s != found.separator and row.text.count(s) == row.expected_columns - 1]
    mixed = f"; the line has {others[0]!r} where others have {found.separator!r}" if others else ""
    return (
        f"{source.name}: cannot be read as text: Row #{row.number}: Expected {row.expected_columns} columns, got "
        f"{row.actual_columns}: {line[:80]}{mixed}; expected lines with equally many values, separated by "
        f"{found.separator!r} (one user a line: data.columns.item: 2-)"
    )


def _cells_of_items(source: Source, found: Dialect, separator: str, places: dict[str, int]) -> Iterator[pa.Table]:
    """Tables of a file whose cells of items, and perhaps of timestamps, hold lists."""
    faults: list[pa.csv.InvalidRow] = []
    options = _options(found, places, faults, text=("item", "timestamp"))
    try:
        with pa.csv.open_csv(pa.PythonFile(stream(source, found), mode="r"), **options) as batches:
            for batch in batches:
                table = _keyed(pa.Table.from_batches([batch]), places)
                yield _coded(exploded(_split(table, separator, places), source.name))
    except pa.ArrowInvalid as error:
        raise UserError(_fault(source, found, faults, error)) from error


def _split(table: pa.Table, separator: str, places: dict[str, int]) -> pa.Table:
    """The table with lists in the cells of items and, where they hold the separator too, of timestamps."""
    cells = {key for key, place in places.items() if place == places["item"]}
    if "timestamp" in places and _holds(table["timestamp"], separator):
        cells |= {key for key, place in places.items() if place == places["timestamp"]}
    return pa.table({key: _values(table[key], separator) if key in cells else table[key] for key in places})


def _holds(column: pa.ChunkedArray, separator: str) -> bool:
    return bool(pc.any(pc.match_substring(column, separator)).as_py())


def _values(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """A list of values for each text; none for an empty one."""
    trimmed = pc.utf8_trim(column, " \t\r" + (separator if len(separator) == 1 else ""))
    filled = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    return pc.utf8_split_whitespace(filled) if separator == BLANK else pc.split_pattern(filled, separator)


def _lines_of_items(source: Source, found: Dialect, places: dict[str, int], rest: str) -> Iterator[pa.Table]:
    """Tables of a file of one user a line, whose values from one on are items."""
    skip, first = int(found.header), places[rest]
    for chunk in chunks(source, found):
        lines = pa.array(chunk.decode().replace("\r", "\n").split("\n"))[skip:]
        skip = 0
        lines = lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))
        cells = pc.split_pattern(lines, unit(found), max_splits=first)
        cells = cells.filter(pc.greater(pc.list_value_length(cells), first))
        single = {key: pc.list_element(cells, place) for key, place in places.items() if key != rest}
        lists = pc.split_pattern(pc.list_element(cells, first), unit(found))
        table = exploded(pa.table({**single, rest: lists}).select(list(places)), source.name)
        yield _coded(table.filter(pc.not_equal(table[rest], "")))  # behind the last item of a line, or for padding


def _coded(table: pa.Table) -> pa.Table:
    """The table with every text but timestamps as a dictionary."""
    coded = {
        key: column if key == "timestamp" else column.cast(pa.string()).dictionary_encode().cast(TEXT_CODES)
        for key, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(coded)
