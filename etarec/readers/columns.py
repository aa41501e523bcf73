"""The column of a file that each key of `data` names: by its name, by its number from 1, or as a field of a list."""

from collections.abc import Sequence

from etarec.config import DataConfig, UserError
from etarec.readers.place import listed

Wanted = dict[str, str | int]  # what is read of a log, by the key that names it
WHERE, AT_LEAST = "data.where.", "data.at_least."
REST = "-"  # ends a column's number that stands for all columns from there on, as in `cut -f`


def wanted(config: DataConfig) -> Wanted:
    """The columns to read: `user`, `item` and `timestamp`, and those of `where` and `at_least` by their keys."""
    columns = config.columns
    ids: dict[str, str | int | None] = {"user": columns.user, "item": columns.item, "timestamp": columns.timestamp}
    filters = {WHERE + name: name for name in config.where} | {AT_LEAST + name: name for name in config.at_least}
    return {key: name for key, name in (ids | filters).items() if name is not None}


def key_of(key: str) -> str:
    """The key as it stands in an experiment file."""
    return key if key.startswith("data.") else f"data.columns.{key}"


def number(name: str | int) -> int | None:
    """The number that names a column; None if `name` is a name."""
    if isinstance(name, int):
        return name
    return int(digits) if (digits := name.removesuffix(REST)).isascii() and digits.isdigit() and digits != "0" else None


def by_number(columns: Wanted) -> bool:
    """Whether users and items are named by their columns' numbers."""
    return all(
        isinstance(columns[key], int) or is_rest(columns[key])
        for key in ("user", "item", "timestamp")
        if key in columns
    )


def is_rest(name: str | int) -> bool:
    """Whether `name` stands for a column and all behind it."""
    return isinstance(name, str) and name.endswith(REST) and number(name) is not None


def choose(source: str, found: Sequence[str], columns: Wanted, hint: str = "") -> dict[str, int]:
    """The position from 0 of the column that each key names. RecBole's header writes `name:type`.

    Raises UserError unless each key names exactly one column, and user, item and timestamp different ones.
    """
    chosen: dict[str, int] = {}
    for key, name in columns.items():
        place = _position(source, found, key, name, hint)
        if place in chosen.values() and not key.startswith("data."):
            raise UserError(
                f"{source}: data.columns.{key} names {name!r} again; expected a column that no other key names"
            )
        chosen[key] = place
    return chosen


def named(full: str, name: str) -> bool:
    """Whether the column `full` of a file is the one that a user calls `name`."""
    return name in (full, full.strip(), full.strip().split(":")[0])


def _position(source: str, found: Sequence[str], key: str, name: str | int, hint: str) -> int:
    if isinstance(name, str):
        matches = [n for n, full in enumerate(found) if full == name]
        matches = matches or [n for n, full in enumerate(found) if named(full, name)]
        if len(matches) == 1:
            return matches[0]
        if matches or (number(name) is None or not (is_rest(name) or key.startswith("data."))):
            fault = "appears more than once" if matches else "is missing"
            columns = listed(list(found))
            raise UserError(f"{source}: column {name!r} ({key_of(key)}) {fault}; the columns are {columns}{hint}")
    place = number(name)
    if place is None or place > len(found):
        raise UserError(
            f"{source}: column {name} ({key_of(key)}) is missing; the file has {len(found)} columns: "
            f"{listed(list(found))}"
        )
    return place - 1
