"""Lists in cells as rows of their own: a session with its events, a user with the items."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import UserError
from etarec.readers.columns import Wanted, key_of
from etarec.readers.place import listed


def exploded(table: pa.Table, source: str) -> pa.Table:
    """A row for each element of the lists; values that are no lists are repeated for each.

    Raises UserError if two lists of one row differ in length.
    """
    lists = [key for key in table.column_names if is_list(table[key].type)]
    if not lists:
        return table
    parts = [_exploded(batch, lists, source) for batch in table.combine_chunks().to_batches()]
    return pa.concat_tables(parts) if parts else table.schema.empty_table().select([])


def _exploded(batch: pa.RecordBatch, lists: list[str], source: str) -> pa.Table:
    lengths = pc.fill_null(pc.list_value_length(batch[lists[0]]), 0)
    for key in lists[1:]:
        other = pc.fill_null(pc.list_value_length(batch[key]), 0)
        row = pc.index(pc.equal(lengths, other), pa.scalar(False)).as_py()
        if row >= 0:
            raise UserError(
                f"{source}: a row has {lengths[row]} values of {lists[0]} and {other[row]} of {key}; expected lists of "
                "the same length"
            )
    parents = pc.list_parent_indices(batch[lists[0]])
    return pa.table(
        {key: pc.list_flatten(batch[key]) if key in lists else batch[key].take(parents) for key in batch.schema.names}
    )


def paths(source: str, schema: pa.Schema, wanted: Wanted) -> dict[str, list[str]]:
    """The fields that lead to each wanted value: a column's name, and behind it fields of its structs.

    Raises UserError for a column that the file does not have, or if user, item and timestamp are not different ones.
    """
    found = {key: _path(source, schema, key, name) for key, name in wanted.items()}
    for key in ("item", "timestamp"):
        if found.get(key) in [found[other] for other in ("user", "item") if other != key]:
            raise UserError(
                f"{source}: data.columns.{key} names {wanted[key]!r} again; expected a column that no other key names"
            )
    return found


def _path(source: str, schema: pa.Schema, key: str, name: str | int) -> list[str]:
    if isinstance(name, int):
        if name <= len(schema.names):
            return [schema.names[name - 1]]
    elif schema.names.count(name) == 1:
        return [name]
    elif schema.names.count(name) > 1:
        raise UserError(f"{source}: column {name!r} ({key_of(key)}) appears more than once")
    elif len(matches := [full for full in schema.names if full.split(":")[0] == name]) == 1:
        return matches
    else:
        first, *fields = name.split(".")
        if schema.names.count(first) == 1 and _leads(schema.field(first).type, fields):
            return [first, *fields]
    known = listed([".".join(path) for path, _ in leaves(schema)])
    raise UserError(f"{source}: column {name!r} ({key_of(key)}) is missing; the columns are {known}")


def selected(batch: pa.RecordBatch, found: Mapping[str, Sequence[str]]) -> pa.Table:
    """The wanted values of a batch under their keys: lists of them where a column holds lists."""
    return pa.table({key: _without_views(_values(batch[path[0]], path[1:])) for key, path in found.items()})


def _without_views(column: pa.Array) -> pa.Array:
    """A column of a type that all of Arrow's functions take; polars writes text as views."""
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if is_list(column.type) and pa.types.is_string_view(column.type.value_type):
        return column.cast(pa.large_list(pa.large_string()))
    return column


def _values(column: pa.Array, fields: Sequence[str]) -> pa.Array:
    for field in fields:
        if is_list(column.type):
            lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
            ends = pc.cumulative_sum(lengths)
            starts = pa.concat_arrays([pa.array([0], pa.int64()), ends])
            column = pa.LargeListArray.from_arrays(starts, pc.struct_field(pc.list_flatten(column), field))
        else:
            column = pc.struct_field(column, field)
    return column


def _leads(kind: pa.DataType, fields: Sequence[str]) -> bool:
    """Whether `fields` name a value inside a column of this type."""
    for field in fields:
        kind = kind.value_type if is_list(kind) else kind
        if not pa.types.is_struct(kind) or kind.get_field_index(field) < 0:
            return False
        kind = kind.field(field).type
    return True


def leaves(schema: pa.Schema) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    """The columns and their types; of structs, and lists of them, their fields instead."""
    for column in schema:
        kind = column.type.value_type if is_list(column.type) else column.type
        if pa.types.is_struct(kind):
            yield from (((column.name, *path), inner) for path, inner in leaves(pa.schema(list(kind))))
        else:
            yield (column.name,), column.type


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
