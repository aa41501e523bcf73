"""Interaction logs read into integer codes.

Formats: delimited text of any separator and encoding, one user a line, JSON lines, Parquet and Feather, each as a file,
a folder of parts or an address; text and JSON also packed. What the spec does not say is told by the content.
No Python code here loops over rows: Arrow encodes users and items while it parses, so that ten million rows are fast.
"""

from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from etarec.config import DataConfig
from etarec.readers import columnar, text
from etarec.readers.columns import Wanted, wanted
from etarec.readers.faults import readable
from etarec.readers.log import Columns, Log, Reading, from_columns
from etarec.readers.place import Places
from etarec.readers.source import Columnar, Source, common_kind, sources

__all__ = ["Log", "Reading", "from_frame", "read"]


class _Parsed(NamedTuple):
    """The wanted columns under their keys, the places of their rows, and how they were read."""

    columns: Columns
    places: Places
    reading: Reading


def read(config: DataConfig) -> Log:
    """The log at `config.path`.

    Raises UserError, which names the file, the line and what was expected, if the log cannot be read.
    """
    assert config.path is not None
    with readable(config.path, "a log"):
        parts = sources(config.path)
        kind = common_kind(parts)
    with readable(config.path, kind):
        parsed = _text(parts, config) if kind == "text" else _columnar(parts, kind, config)
        log = from_columns(parsed.columns, config, parsed.places, parsed.reading)
    pa.default_memory_pool().release_unused()  # Arrow would keep the memory of parsing for itself
    return log


def from_frame(frame: pd.DataFrame, source: str) -> Log:
    """The log in a data frame of three columns: user, item, timestamp. Error messages begin with `source`.

    Raises UserError if a value is missing or unusable.
    """
    table = pa.Table.from_pandas(frame).rename_columns(["user", "item", "timestamp"])
    log = from_columns(_columns(table), DataConfig(dataset="simulated"), Places(source), Reading())
    return replace(log, reading=Reading())


def _text(parts: list[Source], config: DataConfig) -> _Parsed:
    columns = wanted(config)
    dialects = [text.dialect_of(part, config, columns) for part in parts]
    tables = [text.read(part, found, config, columns) for part, found in zip(parts, dialects, strict=True)]
    lists = text.has_lists(config, columns)
    places = Places("", unit="interaction" if lists else "line", first=1 if lists else 1 + dialects[0].header)
    doubts = dialects[0].doubts(columns)
    return _joined(parts, tables, config, places, Reading((dialects[0].described(),), doubts=tuple(doubts)))


def _columnar(parts: list[Source], kind: Columnar, config: DataConfig) -> _Parsed:
    columns: Wanted = wanted(config)
    schemas = [columnar.schema(part, kind) for part in parts]
    tables = [columnar.read(part, kind, found, columns) for part, found in zip(parts, schemas, strict=True)]
    lists = any(columnar.has_lists(part, found, columns) for part, found in zip(parts, schemas, strict=True))
    unit = "interaction" if lists else "line" if kind == "JSON lines" else "row"
    return _joined(parts, tables, config, Places("", unit=unit), Reading((kind,)))


def _joined(
    parts: list[Source], tables: list[pa.Table], config: DataConfig, places: Places, reading: Reading
) -> _Parsed:
    """The parts of a log as one table."""
    assert config.path is not None
    places = replace(places, source=Source(config.path).name)
    filled = [table for table in tables if table.num_rows]
    if len(parts) > 1:
        counts = tuple((part.name, table.num_rows) for part, table in zip(parts, tables, strict=True))
        places = replace(places, parts=counts)
        reading = replace(reading, understood=(f"{len(parts)} files of {reading.understood[0]}",))
    return _Parsed(_columns(pa.concat_tables(filled or tables[:1], promote_options="permissive")), places, reading)


def _columns(table: pa.Table) -> Columns:
    return dict(zip(table.column_names, table.columns, strict=True))
