"""Timestamps as numbers: seconds, milliseconds and the like as given, dates as seconds since 1970."""

import re

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import UserError
from etarec.readers.place import MISSING_WORDS, Bools, Places

Floats = npt.NDArray[np.float64]

_TYPES = (pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
_CURE = "; `data.drop: [missing_time]` drops such rows"
_UNITS = {
    "seconds": (1e8, 1e10),
    "milliseconds": (1e11, 1e13),
    "microseconds": (1e14, 1e16),
    "nanoseconds": (1e17, 1e19),
}
# Formats that are tried in this order, where neither a number nor ISO 8601 fits. Day and month may be ambiguous.
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_UNAMBIGUOUS = (
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S %z",
    *(
        day + clock
        for day in ("%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y")
        for clock in _CLOCKS
    ),
    "%m %d, %Y",
)
_EITHER_ORDER = tuple(
    (month + clock, day + clock)
    for month, day in (("%m/%d/%Y", "%d/%m/%Y"), ("%m-%d-%Y", "%d-%m-%Y"), ("%m.%d.%Y", "%d.%m.%Y"))
    for clock in _CLOCKS
)
_SAMPLE, _MOST = 1000, 0.5  # first dates that must mostly have a format for it to be the file's


def is_missing(column: pa.ChunkedArray) -> Bools:
    """Whether each timestamp is missing: null, not a number, or a word for that, bool [N]."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        missing = [
            pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(c)), pa.array(MISSING_WORDS, c.type)) for c in column.chunks
        ]
        found = pc.or_(pa.chunked_array(missing, pa.bool_()), column.is_null())
        return pc.fill_null(found, True).to_numpy()
    return column.is_null(nan_is_null=True).to_numpy()


def timestamps(column: pa.ChunkedArray, time_format: str | None, places: Places) -> tuple[Floats, str]:
    """Timestamps as float64 [N], and in words how they were read. time_format: of dates, as in `data.time_format`.

    Raises UserError if one is missing, not finite, neither a number nor a date, or of an ambiguous date.
    """
    if column.null_count:
        row = pc.index(column.is_null(), pa.scalar(True)).as_py()
        places.fail(row, f"has no timestamp; expected a number or a date in every row{_CURE}")
    if time_format is not None:
        return _formatted(column, time_format, places), f"dates as {time_format}"
    numbers = _numbers(column)
    if numbers is None and _is_text(column):
        column = pa.chunked_array([pc.utf8_trim_whitespace(chunk) for chunk in column.chunks], column.type)
        numbers = _numbers(column)
    if numbers is None:
        return _dates(column, places)
    if pa.types.is_timestamp(numbers.type):
        return numbers.cast(pa.int64()).to_numpy() / 1e9, "ISO 8601 dates" if _is_text(column) else "dates"
    seconds = numbers.to_numpy()
    if not np.isfinite(seconds).all():
        row = int(np.argmin(np.isfinite(seconds)))
        places.fail(row, f"has the timestamp {seconds[row]}; expected a finite number{_CURE}")
    return seconds, _unit(seconds)


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as numbers or moments; None if it holds neither."""
    return next((cast for to in _TYPES if (cast := _cast(column, to)) is not None), None)


def doubts(times: Floats, places: Places) -> list[str]:
    """A warning if some timestamps are, for instance, seconds and others milliseconds or 0."""
    units = _units(times)
    zeros = int(np.count_nonzero(times <= 0))
    if units and zeros and zeros + sum(units.values()) == len(times):
        row = int(np.argmax(times <= 0))
        return [
            f"{zeros:,} timestamps are 0 or less where others are {' and '.join(units)} since 1970; the first is in "
            f"{places.name(row)}; they may stand for missing ones"
        ]
    if len(units) < 2:
        return []
    rarest = min(units, key=lambda unit: units[unit])
    low, high = _UNITS[rarest]
    row = int(np.argmax((times >= low) & (times < high)))
    counts = ", ".join(f"{count:,} in {unit}" for unit, count in units.items())
    return [
        f"timestamps look like different units: {counts}; the first in {rarest} is {times[row]:.0f} in "
        f"{places.name(row)}; they are compared as they are, so bring them to one unit"
    ]


def _units(times: Floats) -> dict[str, int]:
    counts = {unit: int(np.count_nonzero((times >= low) & (times < high))) for unit, (low, high) in _UNITS.items()}
    return {unit: count for unit, count in counts.items() if count}


def _unit(times: Floats) -> str:
    units = _units(times)
    if sum(units.values()) == len(times) and len(units) == 1:
        return f"{next(iter(units))} since 1970"
    return "numbers of different units" if len(units) > 1 else "numbers"


def _dates(column: pa.ChunkedArray, places: Places) -> tuple[Floats, str]:
    """Dates in another form than ISO 8601, in the only format that fits all."""
    if not _is_text(column):
        raise UserError(f"{places.source}: the timestamp column is of type {column.type}; expected numbers or dates")
    if bool(pc.all(pc.ends_with(column, "UTC")).as_py()):
        zoned = pa.chunked_array([pc.replace_substring_regex(chunk, " ?UTC$", "Z") for chunk in column.chunks])
        if (moments := _cast(zoned, _TYPES[-1])) is not None:
            return moments.cast(pa.int64()).to_numpy() / 1e9, "ISO 8601 dates with UTC"
    sample = column.slice(0, _SAMPLE)
    for fmt in _UNAMBIGUOUS:
        if _share(sample, fmt) >= _MOST:
            return _formatted(column, fmt, places), f"dates as {fmt} (guessed)"
    for formats in _EITHER_ORDER:
        if any(_share(sample, fmt) >= _MOST for fmt in formats):
            return _in_one_order(column, formats, places)
    row = max(_first_bad(column, to) for to in _TYPES)
    value = column[row].as_py()
    fault = f"has the timestamp {value!r}; expected a number or an ISO 8601 date and time"
    missing = re.fullmatch("|".join(map(re.escape, MISSING_WORDS)), value.strip().lower())
    places.fail(row, fault + (_CURE if missing else ", or data.time_format, such as '%d.%m.%Y %H:%M'"))


def _in_one_order(column: pa.ChunkedArray, formats: tuple[str, str], places: Places) -> tuple[Floats, str]:
    """Dates that are either months before days or days before months, if only one of the two fits all."""
    fitting = [fmt for fmt in formats if _share(column, fmt) == 1]
    if len(fitting) == 1:
        return _formatted(column, fitting[0], places), f"dates as {fitting[0]} (guessed)"
    if fitting:
        raise UserError(
            f"{places.name(0)} has the timestamp {column[0].as_py()!r}, and no row tells whether the month or the day "
            f"comes first; expected data.time_format: '{formats[0]}' or '{formats[1]}'"
        )
    first = max((_first_unfit(column, fmt), fmt) for fmt in formats)
    places.fail(
        first[0], f"has the timestamp {column[first[0]].as_py()!r}; expected a date as {first[1]} like the rows before"
    )


def _formatted(column: pa.ChunkedArray, fmt: str, places: Places) -> Floats:
    """Dates in seconds since 1970. Raises UserError, which names the row, for one of another format."""
    if not _is_text(column):
        raise UserError(
            f"data.time_format: given {fmt!r}, but the timestamp column is of type {column.type}, which needs none; "
            "expected null"
        )
    seconds = np.concatenate([_parsed(chunk, fmt) for chunk in column.chunks])
    if np.isnan(seconds).any():
        row = int(np.argmax(np.isnan(seconds)))
        places.fail(row, f"has the timestamp {column[row].as_py()!r}; expected a date as {fmt!r} (data.time_format)")
    return seconds


def _parsed(chunk: pa.Array, fmt: str) -> Floats:
    """Seconds since 1970; NaN where a text has another format."""
    coded = chunk.dictionary_encode()  # many logs have few distinct dates
    texts = pd.Series(pc.utf8_trim_whitespace(coded.dictionary).to_pylist(), dtype=object)
    try:
        moments = pd.to_datetime(texts, format=fmt, utc=True, errors="coerce")
    except ValueError as error:
        raise UserError(
            f"data.time_format: given {fmt!r}, expected a format such as '%d.%m.%Y %H:%M': {error}"
        ) from None
    values = moments.dt.tz_convert(None).to_numpy("datetime64[ns]")
    seconds = np.where(np.isnat(values), np.nan, values.astype(np.int64) / 1e9)
    return seconds[coded.indices.to_numpy()]


def _share(column: pa.ChunkedArray, fmt: str) -> float:
    """The share of texts that have the format."""
    fitting = sum(np.count_nonzero(~np.isnan(_parsed(chunk, fmt))) for chunk in column.chunks)
    return fitting / len(column)


def _first_unfit(column: pa.ChunkedArray, fmt: str) -> int:
    seconds = np.concatenate([_parsed(chunk, fmt) for chunk in column.chunks])
    return int(np.argmax(np.isnan(seconds)))


def _is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


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
