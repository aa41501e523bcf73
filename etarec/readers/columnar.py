"""Parquet, Feather and JSON lines read into tables, batch by batch, so that only ids' codes stay in memory."""

import json
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from etarec.config import UserError
from etarec.readers.columns import Wanted
from etarec.readers.dialect import Dialect
from etarec.readers.lines import MAX_LINE_BYTES, chunks
from etarec.readers.lists import exploded, is_list, leaves, paths, selected
from etarec.readers.source import Columnar, Source

_BATCH_ROWS = 2**17
_JSON = Dialect("utf-8-sig", b"\n", "\t", quoted=False, header=False, records=((),))
_NOT_JSON_LINES = {
    "[": (
        "the file is one JSON list, expected JSON lines, one object a line; `jq -c '.[]' FILE > FILE.jsonl` makes them"
    ),
    "{'": "the lines are Python literals, expected JSON; `json.dumps(ast.literal_eval(line))` makes it of a line",
    "{u'": "the lines are Python literals, expected JSON; `json.dumps(ast.literal_eval(line))` makes it of a line",
}


def schema(source: Source, kind: Columnar) -> pa.Schema:
    """The columns of a file, and their types."""
    if kind == "JSON lines":
        return _json_schema(source)
    with source.seekable() as file:
        if kind == "Parquet":
            return pa.parquet.read_schema(file)
        return pa.ipc.open_file(file).schema


def fields(found: pa.Schema) -> dict[str, str]:
    """The types of columns and of the fields of their structs, by the names that `data.columns` takes."""
    return {".".join(path): str(kind) for path, kind in leaves(found)}


def head(source: Source, kind: Columnar, found: pa.Schema, rows: int) -> list[dict[str, object]]:
    """The first rows of a file, a value for each of `fields`."""
    where = {".".join(path): list(path) for path, _ in leaves(found)}
    first = next(_batches(source, kind, found, where), None)
    return [] if first is None else selected(first.slice(0, rows), where).to_pylist()


def read(source: Source, kind: Columnar, found: pa.Schema, wanted: Wanted) -> pa.Table:
    """The wanted columns of a file under their keys, ids as dictionaries.

    Raises UserError for a column that the file does not have.
    """
    where = paths(source.name, found, wanted)
    batches = _batches(source, kind, found, where)
    tables = [_coded(exploded(selected(batch, where), source.name)) for batch in batches]
    if not tables:
        return pa.table({key: pa.array([], pa.string()) for key in wanted})
    return pa.concat_tables(tables)


def has_lists(source: Source, found: pa.Schema, wanted: Wanted) -> bool:
    """Whether a row of the file holds several interactions."""
    columns = {path[0] for path in paths(source.name, found, wanted).values()}
    return any(is_list(found.field(name).type) for name in columns)


def _coded(table: pa.Table) -> pa.Table:
    return pa.table(
        {
            key: column if key == "timestamp" or _is_coded(column.type) else column.dictionary_encode()
            for key, column in zip(table.column_names, table.columns, strict=True)
        }
    )


def _is_coded(kind: pa.DataType) -> bool:
    """Whether a column stays as it is: codes already, or nothing that has codes."""
    return pa.types.is_dictionary(kind) or pa.types.is_nested(kind)


def _batches(source: Source, kind: Columnar, found: pa.Schema, where: dict[str, list[str]]) -> Iterator[pa.RecordBatch]:
    read_kind = {"Parquet": _parquet, "Feather": _feather, "JSON lines": _json}[kind]
    return read_kind(source, found, where)


def _columns(where: dict[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(path[0] for path in where.values()))


def _parquet(source: Source, found: pa.Schema, where: dict[str, list[str]]) -> Iterator[pa.RecordBatch]:
    with source.seekable() as file:
        yield from pa.parquet.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=_columns(where))


def _feather(source: Source, found: pa.Schema, where: dict[str, list[str]]) -> Iterator[pa.RecordBatch]:
    numbers = [found.get_field_index(name) for name in _columns(where)]
    with source.seekable() as file:
        batches = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=numbers))
        for number in range(batches.num_record_batches):
            batch = batches.get_batch(number)
            batch.validate(full=True)  # offsets that a damaged file gives would be followed out of its memory
            yield batch


def _json(source: Source, found: pa.Schema, where: dict[str, list[str]]) -> Iterator[pa.RecordBatch]:
    fields = [
        _pruned(found.field(name), [path[1:] for path in where.values() if path[0] == name]) for name in _columns(where)
    ]
    options = pa.json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
    lines = 0
    for chunk in chunks(source, _JSON, cure=""):
        yield from _parsed(source, chunk, options, lines).to_batches()
        lines += chunk.count(b"\n")


def _parsed(source: Source, chunk: bytes, options: pa.json.ParseOptions | None, lines: int) -> pa.Table:
    """The objects of a part of the file, behind `lines` lines."""
    if not chunk.strip():
        return pa.table({})
    try:
        block = pa.json.ReadOptions(block_size=max(len(chunk), MAX_LINE_BYTES))
        return pa.json.read_json(pa.BufferReader(chunk), block, options)
    except pa.ArrowInvalid as error:
        start = chunk.lstrip()[:3].decode(errors="replace")
        other = next((text for sign, text in _NOT_JSON_LINES.items() if start.startswith(sign)), None)
        reason = str(error).splitlines()[0]
        fault = other or f"line {lines + _bad_line(chunk, reason)} cannot be read as JSON: {reason}"
        raise UserError(f"{source.name}: {fault}") from error


def _bad_line(chunk: bytes, reason: str) -> int:
    """The number from 1 of the line that Arrow's parser refused."""
    row = re.search(r"in row (\d+)", reason)
    return int(row[1]) + 1 if row and "changed from" in reason else _first_bad(chunk)


def _first_bad(chunk: bytes) -> int:
    """The number from 1 of the first line that is not a JSON object; 1 if all are."""
    for number, line in enumerate(chunk.split(b"\n"), start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return number
        except ValueError:
            return number
    return 1


def _json_schema(source: Source) -> pa.Schema:
    """The types of the first lines' fields; dates are left as text."""
    head = next(chunks(source, _JSON, cure=""), b"")
    return pa.schema([pa.field(f.name, _plain(f.type)) for f in _parsed(source, head, None, 0).schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in kind])
    return pa.string() if pa.types.is_timestamp(kind) or pa.types.is_null(kind) else kind


def _pruned(field: pa.Field, fields: list[list[str]]) -> pa.Field:
    """The field with only the wanted ones of its structs' fields."""
    return pa.field(field.name, _pruned_type(field.type, [path for path in fields if path]))


def _pruned_type(kind: pa.DataType, fields: list[list[str]]) -> pa.DataType:
    if not fields:
        return kind
    if pa.types.is_list(kind):
        return pa.list_(_pruned_type(kind.value_type, fields))
    names = dict.fromkeys(path[0] for path in fields)
    return pa.struct([_pruned(kind.field(name), [path[1:] for path in fields if path[0] == name]) for name in names])
