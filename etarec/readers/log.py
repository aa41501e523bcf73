"""Columns of texts turned into a log of integer codes, and what was found on the way."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import DataConfig, UserError
from etarec.readers import ids, rows, times
from etarec.readers.ids import Ids, Int32s
from etarec.readers.place import NO_ROWS, Bools, Places
from etarec.readers.times import Floats

Columns = dict[str, pa.ChunkedArray]  # by their keys


@dataclass(frozen=True)
class Reading:
    """The reading of a log in sentences for the user: how it was understood and what was changed."""

    understood: tuple[str, ...] = ()  # how the file and its timestamps were read
    largest: tuple[str, ...] = ()  # the user and the item with most interactions
    dropped: tuple[str, ...] = ()  # how many rows were left out, and why
    doubts: tuple[str, ...] = ()  # what looks wrong, and what to do

    def summary(self) -> list[str]:
        """Lines about the reading and about what was left out."""
        return [*self.understood, *(f"left out: {text}" for text in self.dropped)]

    def and_(self, *, understood: str = "", dropped: str = "", doubts: Iterable[str] = ()) -> "Reading":
        """The same reading with more sentences; an empty one is left out."""
        return replace(
            self,
            understood=(*self.understood, *filter(None, [understood])),
            dropped=(*self.dropped, *filter(None, [dropped])),
            doubts=(*self.doubts, *doubts),
        )


@dataclass(frozen=True, eq=False)
class Log:
    """N interactions in the file's order."""

    users: Int32s  # [N], codes from 0 in the order of the users' tokens
    items: Int32s  # [N], codes from 0 in the order of the items' tokens
    tokens: pa.LargeStringArray  # [item codes], index c holds the token of item code c
    times: Floats | None  # [N], finite; dates in seconds since 1970, numbers as given; None without a timestamp column
    token_width: int = 0  # characters of the longest token that was read; hashed with the tokens
    reading: Reading = field(default_factory=Reading)
    user_tokens: pa.LargeStringArray = field(default_factory=lambda: pa.array([], pa.large_string()))  # [user codes]


def from_columns(columns: Columns, config: DataConfig, places: Places, reading: Reading) -> Log:
    """The log in the columns user, item, perhaps timestamp, and those of filters. Columns are taken out of `columns`
    as they are encoded, which frees their memory.

    Raises UserError if nothing is left, or if a value is missing or unusable.
    """
    if not len(columns["user"]):
        raise UserError(f"{places.source}: {NO_ROWS}")
    places, reading = _filter(columns, config, places, reading)
    places, reading = _drop_missing_times(columns, config, places, reading)
    when = None
    if "timestamp" in columns:
        when, words = times.timestamps(_plain(columns.pop("timestamp")), config.time_format, places)
        reading = reading.and_(understood=f"timestamps: {words}", doubts=times.doubts(when, places))
    users, items = (ids.encode(columns.pop(what), what, places) for what in ("user", "item"))
    return _complete(users, items, when, config, places, reading)


def _filter(columns: Columns, config: DataConfig, places: Places, reading: Reading) -> tuple[Places, Reading]:
    """Keep the rows that `data.where` and `data.at_least` ask for, and only the columns of the log."""
    keep = rows.kept(columns, config, places)
    for key in columns.keys() - {"user", "item", "timestamp"}:
        del columns[key]
    return (places, reading) if keep is None else _keep(columns, keep, places, reading, "data.where and data.at_least")


def _drop_missing_times(
    columns: Columns, config: DataConfig, places: Places, reading: Reading
) -> tuple[Places, Reading]:
    """Keep the rows that have a timestamp, if `data.drop` says so."""
    if "missing_time" not in config.drop or "timestamp" not in columns:
        return places, reading
    keep = ~times.is_missing(_plain(columns["timestamp"]))
    if not keep.any():
        raise UserError(f"{places.source}: no row has a timestamp; expected some, or data.columns.timestamp: null")
    return _keep(columns, keep, places, reading, "data.drop: missing_time")


def _keep(columns: Columns, keep: Bools, places: Places, reading: Reading, reason: str) -> tuple[Places, Reading]:
    """Filter every column, in place."""
    mask = pa.array(keep)
    for key in columns:
        columns[key] = columns[key].filter(mask)
    return places.after(keep), reading.and_(dropped=_dropped(keep, reason))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose values are not codes."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _complete(users: Ids, items: Ids, when: Floats | None, config: DataConfig, places: Places, reading: Reading) -> Log:
    """The log of rows with a user and an item. Raises UserError for another row, unless `data.drop` drops it."""
    if "missing_ids" in config.drop:
        keep = ~(users.missing() | items.missing())
        if not keep.any():
            raise UserError(f"{places.source}: no row has both a user and an item; expected ids")
        reading = reading.and_(dropped=_dropped(keep, "data.drop: missing_ids"))
        users, items, when = users.of(keep), items.of(keep), None if when is None else when[keep]
    for what, found in (("user", users), ("item", items)):
        ids.check_complete(found, what, places)
        reading = reading.and_(doubts=ids.doubts(found, what))
        reading = replace(reading, largest=(*reading.largest, ids.largest(found, what)))
    width = pc.max(pc.utf8_length(items.tokens)).as_py()
    return Log(users.codes, items.codes, items.tokens, when, width, reading, users.tokens)


def _dropped(keep: Bools, reason: str) -> str:
    """The number of rows that a setting left out, in words; an empty text if none."""
    count = len(keep) - int(np.count_nonzero(keep))
    return f"{count:,} of {len(keep):,} rows ({reason})" if count else ""
