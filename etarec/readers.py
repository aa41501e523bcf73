"""Interaction logs read into integer codes: RecBole .inter, CSV, TSV (each also gzipped) and Parquet.

No Python code here loops over rows: Arrow encodes users and items while it parses, so that ten million rows are fast.
"""

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from etarec.config import ColumnsConfig, UserError

Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_DELIMITERS = {".inter": "\t", ".tsv": "\t", ".csv": ","}
_EXPECTED_FILE = "expected an interaction log: .inter, .csv, .tsv (each also .gz) or .parquet"
_NO_ROWS = f"holds no interactions; {_EXPECTED_FILE} with at least one row"
_TEXT_CODES = pa.dictionary(pa.int32(), pa.string())
_TIMESTAMP_TYPES = (pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
_MAX_HEADER_BYTES = 1 << 20
_READ_ERRORS = (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error)


@dataclass(frozen=True, eq=False)
class Log:
    """N interactions in the file's order."""

    users: Int32s  # [N], codes from 0 in the order of the users' tokens
    items: Int32s  # [N], codes from 0 in the order of the items' tokens
    tokens: npt.NDArray[np.str_]  # [item codes], index c holds the token of item code c
    times: Floats | None  # [N], finite; dates in seconds since 1970, numbers as given; None without a timestamp column


def read(path: Path, columns: ColumnsConfig) -> Log:
    """The log in the file `path`.

    Raises UserError, which names the file, the line and what was expected, if the log cannot be read.
    """
    log = _from_table(_read(path, columns), str(path))
    pa.default_memory_pool().release_unused()  # Arrow would keep the memory of parsing for itself
    return log


def from_frame(frame: pd.DataFrame, source: str) -> Log:
    """The log in a data frame of three columns: user, item, timestamp. Error messages begin with `source`.

    Raises UserError if a value is missing or unusable.
    """
    return _from_table(pa.Table.from_pandas(frame).rename_columns(["user", "item", "timestamp"]), source)


def _from_table(table: pa.Table, source: str) -> Log:
    if not table.num_rows:
        raise UserError(f"{source}: {_NO_ROWS}")
    times = None
    if "timestamp" in table.column_names:
        times, table = _timestamps(table["timestamp"], source), table.drop_columns("timestamp")  # frees the texts
    users, _ = _encode(table["user"], "user", source)
    items, tokens = _encode(table["item"], "item", source)
    return Log(users, items, tokens.to_numpy(zero_copy_only=False).astype(np.str_), times)


def _read(path: Path, columns: ColumnsConfig) -> pa.Table:
    """The log's columns, renamed to user, item and (if data.columns names one) timestamp."""
    if not path.exists():
        raise UserError(f"{path}: no such file; {_EXPECTED_FILE}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; {_EXPECTED_FILE}")
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty; {_EXPECTED_FILE}")
    name = path.name.lower()
    delimiter = _DELIMITERS.get(Path(name.removesuffix(".gz")).suffix)
    if delimiter is None and not name.endswith(".parquet"):
        raise UserError(f"{path}: unknown file extension; {_EXPECTED_FILE}")
    try:
        return _read_parquet(path, columns) if delimiter is None else _read_text(path, delimiter, columns)
    except _READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as {_kind(name)}: {str(error).splitlines()[0]}") from error


def _kind(name: str) -> str:
    if name.endswith(".parquet"):
        return "Parquet"
    return "gzip of UTF-8 text" if name.endswith(".gz") else "UTF-8 text with one interaction per line"


def _read_parquet(path: Path, columns: ColumnsConfig) -> pa.Table:
    names = _choose(path, pyarrow.parquet.read_schema(path).names, columns)
    table = pyarrow.parquet.ParquetFile(path).read(columns=list(names.values()))
    return table.select(list(names.values())).rename_columns(list(names))


def _read_text(path: Path, delimiter: str, columns: ColumnsConfig) -> pa.Table:
    names = _choose(path, _header(path, delimiter), columns)
    quoted = delimiter == ","
    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
    )
    convert = pyarrow.csv.ConvertOptions(
        include_columns=list(names.values()),
        column_types={column: pa.string() if key == "timestamp" else _TEXT_CODES for key, column in names.items()},
        null_values=[""],
        strings_can_be_null=True,
    )

    def read(threads: bool) -> pa.Table:
        return pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=threads), parse, convert)

    try:
        table = read(threads=True)
    except pa.ArrowInvalid:
        table = read(threads=False)  # raises the same error, and only without threads names the row
    return table.rename_columns(list(names))


def _header(path: Path, delimiter: str) -> list[str]:
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        whole_line = file.readline(_MAX_HEADER_BYTES)
    line = whole_line.decode("utf-8-sig").rstrip("\r\n")
    if "\0" in line:
        raise csv.Error("the first line is binary")
    if not line.strip():
        raise csv.Error("the first line is empty, expected the names of the columns")
    if not whole_line.endswith(b"\n"):
        raise UserError(f"{path}: {_NO_ROWS}")
    return next(csv.reader([line])) if delimiter == "," else line.split(delimiter)


def _choose(path: Path, found: list[str], columns: ColumnsConfig) -> dict[str, str]:
    """The full name in the file for each of user, item and timestamp. RecBole's header writes `name:type`.

    Raises UserError unless every configured name matches exactly one column, and each a different one.
    """
    wanted = {"user": columns.user, "item": columns.item, "timestamp": columns.timestamp}
    chosen: dict[str, str] = {}
    for key, name in wanted.items():
        if name is None:
            continue
        matches = [full for full in found if full == name] or [full for full in found if full.split(":")[0] == name]
        if len(matches) != 1:
            fault = "appears more than once" if matches else "is missing"
            listed = ", ".join(repr(full[:40]) for full in found[:30])
            raise UserError(f"{path}: column {name!r} (data.columns.{key}) {fault}; the columns are {listed}")
        if matches[0] in chosen.values():
            raise UserError(
                f"{path}: data.columns.{key} names {name!r} again; expected a column that no other key names"
            )
        chosen[key] = matches[0]
    return chosen


def _encode(column: pa.ChunkedArray, what: str, source: str) -> tuple[Int32s, pa.StringArray]:
    """Codes [N] of a column of ids, and the ids as text, sorted by code point. An id is never read as a number.

    Raises UserError if an id is missing or empty, or if the ids are neither text nor integers.
    """
    missing = pc.index(pc.is_null(column, nan_is_null=True), pa.scalar(True)).as_py()
    if missing >= 0:
        _fail(source, missing, f"has no {what}")
    try:
        array = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).combine_chunks()
        words = array.dictionary.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(
            f"{source}: the {what} column is of type {column.type}; expected text or integer ids"
        ) from error
    distinct = pc.unique(words)
    tokens = distinct.take(pc.array_sort_indices(distinct))
    codes: Int32s = pc.index_in(words, value_set=tokens).to_numpy()[array.indices.to_numpy()]
    if not tokens[0].as_py():
        _fail(source, int(np.argmax(codes == 0)), f"has no {what}")
    return codes, tokens


def _timestamps(column: pa.ChunkedArray, source: str) -> Floats:
    """Timestamps as float64 [N]: numbers as given, dates in seconds since 1970.

    Raises UserError if one is missing, not finite, or neither a number nor a date.
    """
    if column.null_count:
        _fail(source, pc.index(pc.is_null(column), pa.scalar(True)).as_py(), "has no timestamp")
    numbers = next((cast for to in _TIMESTAMP_TYPES if (cast := _cast(column, to)) is not None), None)
    if numbers is None:
        row = max(_first_bad(column, to) for to in _TIMESTAMP_TYPES)
        _fail(source, row, f"has the timestamp {column[row].as_py()!r}; expected a number or an ISO 8601 date and time")
    if pa.types.is_timestamp(numbers.type):
        seconds: Floats = numbers.cast(pa.int64()).to_numpy() / 1e9
    else:
        seconds = numbers.to_numpy()
    if not np.isfinite(seconds).all():
        row = int(np.argmin(np.isfinite(seconds)))
        _fail(source, row, f"has the timestamp {seconds[row]}; expected a finite number")
    return seconds


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(to, safe=not pa.types.is_integer(column.type))
    except pa.ArrowException:
        return None


def _first_bad(column: pa.ChunkedArray, to: pa.DataType) -> int:
    """Index of the first value that cannot be cast to `to`, found by bisection. At least one value cannot."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _cast(column[low:middle], to) is None else (middle, high)
    return low


def _fail(source: str, row: int, fault: str) -> NoReturn:
    """Raise UserError about row `row` (from 0), given as a line of a text file (header: line 1) or a Parquet row."""
    place = f"row {row + 1}" if source.lower().endswith(".parquet") else f"line {row + 2}"
    raise UserError(f"{source}: {place} {fault}")
