"""Describes how a log is read, before anything is trained on it, and writes an experiment file for it.

python -m etarec.describe FILE [--set key=value ...] [--write EXPERIMENT]
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from etarec.command_line import command_parser, exit_status, printable
from etarec.config import DataConfig, UserError
from etarec.data import load, prepared
from etarec.document import parse_yaml, quoted, to_text
from etarec.document_schema import Schema, dotted
from etarec.override import parse_override
from etarec.preprocessing import k_core
from etarec.readers.log import Log
from etarec.readers.preview import Preview, preview

_ADAPTER: TypeAdapter[DataConfig] = TypeAdapter(DataConfig)
_TEMPLATE = Path(__file__).with_name("experiment.template.yaml")
_SCHEMA = Schema(_ADAPTER.json_schema())
_MAX_K = 500  # largest top_k of the template
_LABEL, _CELL, _ROWS = 12, 24, 3  # columns of labels and of values; first rows that are shown
_EPOCH_UNITS = {1e11: 1, 1e14: 1e3, 1e17: 1e6, 1e20: 1e9}  # times below the key, in parts of a second


@exit_status(interrupted="interrupted")
def main() -> int:
    """Run the command. Exit status: 0 if the log can be read, 2 for a user's error, 130 after Ctrl-C."""
    arguments = _parse()
    given = _given(arguments.file, arguments.set)
    if arguments.write is not None and arguments.write.exists():
        raise UserError(f"--write: {arguments.write} exists already; expected the name of a new file")
    *lines, block = report(given)
    print(*lines, block, sep="\n")
    if arguments.write is not None:
        _write(arguments.write, block)
    return 0


def _write(path: Path, block: str) -> None:
    """Write the experiment file of a section `data`, with the settings and the space of the template.

    K cannot exceed the catalogue, so the log is read as a search reads it.
    """
    items = load(_config(parse_yaml(block, "data")["data"])).n_items - 1
    template = _TEMPLATE.read_text(encoding="utf-8").replace(f"high: {_MAX_K}", f"high: {min(_MAX_K, items)}")
    try:
        path.write_text(f"name: {path.stem}\n{block}\n{template}", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--write: {path} cannot be written ({error.strerror})") from error
    print(f"\nwritten     {path}; now: python -m search.tune --space {path} --dry-run")


def report(given: dict[str, Any]) -> Iterator[str]:
    """Lines that tell how a log is read; the last text is the section `data` that reads it.

    given: what is known of that section; it names the log.

    Raises UserError if it cannot be read, or if its columns can neither be guessed nor are given.
    """
    beginning = preview(_config({key: value for key, value in given.items() if key not in ("where", "at_least")}))
    yield from _beginning(beginning)
    if "columns" not in given:
        guess = _guessed(beginning, given["path"])
        given = given | {"columns": guess}
        yield _entry("guessed", _guess(guess, beginning.named))
    config = _config(given)
    log = prepared(config, given["path"])
    if log.times is not None and "order" not in given:
        given = given | {"order": "time"}
    yield from reading_lines(log)
    yield from _counts(log, config)
    yield from (f"warning: {doubt}" for doubt in log.reading.doubts)
    yield ""
    yield to_text({"data": given}).rstrip()


def reading_lines(log: Log) -> Iterator[str]:
    """Lines about the log as it was read."""
    for text in log.reading.understood[1:]:
        yield _entry("read", text)
    for text in log.reading.dropped:
        yield _entry("dropped", text)


def _beginning(beginning: Preview) -> Iterator[str]:
    yield _entry("format", beginning.described)
    named = zip(beginning.names, beginning.types, strict=True)
    yield _entry("columns", ", ".join(f"{name} ({kind})" for name, kind in named))
    for row in beginning.rows[:_ROWS]:
        yield _entry(
            "row", "  ".join(value if len(value) <= _CELL else f"{value[: _CELL - 3]}..." for value in row[:30])
        )


def _guessed(beginning: Preview, path: str) -> dict[str, str | int | None]:
    columns = beginning.guess()
    if columns is None:
        names, (user, item, time) = ", ".join(beginning.names), beginning.example()
        raise UserError(
            f"{path}: neither names nor content tell which columns are users and items; give them, for instance "
            f"--set columns.user={user} columns.item={item} columns.timestamp={time}; the columns are {names}"
        )
    return {"user": columns.user, "item": columns.item, "timestamp": columns.timestamp}


def _guess(columns: dict[str, str | int | None], named: bool) -> str:
    """The guessed columns in words, and how to correct them."""
    other = "--set columns.user=NAME columns.item=NAME ..." if named else "--set columns.user=1 columns.item=2 ..."
    lists = "" if named else "; one user a line: columns.user=1 columns.item=2- columns.timestamp=null"
    chosen = ", ".join(f"{key} {'none' if name is None else name}" for key, name in columns.items())
    return f"{chosen} (others by {other}{lists})"


def _counts(log: Log, config: DataConfig) -> Iterator[str]:
    users, items = (int(np.count_nonzero(np.bincount(codes))) for codes in (log.users, log.items))
    yield _entry("log", f"{len(log.items):,} interactions, {users:,} users, {items:,} items")
    for text in log.reading.largest:
        yield _entry("", text)
    if log.times is not None:
        yield _entry("time", f"{_moment(log.times.min())} to {_moment(log.times.max())}")
    else:
        yield _entry("time", "none that can be compared between users; each user's order is the file's")
    yield _entry("k-core", _core(log, config))


def _core(log: Log, config: DataConfig) -> str:
    try:
        core = k_core(replace(log), config.k_core, "")
    except UserError:
        return f"{config.k_core} interactions per user and item (k_core) leave nothing; --set k_core=0 keeps all"
    users, items = int(core.users.max()) + 1, len(core.tokens)
    return f"{config.k_core} leaves {len(core.items):,} interactions, {users:,} users, {items:,} items"


def _moment(time: float) -> str:
    """A timestamp as it is, and as a date where it looks like seconds or parts of them since 1970."""
    parts = next((parts for most, parts in _EPOCH_UNITS.items() if abs(time) < most), None)
    if parts is None or abs(time) < 1e8:
        return f"{time:g}"
    return datetime.fromtimestamp(time / parts, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _entry(label: str, text: str) -> str:
    return f"{label:{_LABEL}}{printable(text)}"


def _given(path: str, overrides: list[str]) -> dict[str, Any]:
    """The section `data` with the path and the `--set` texts, whose keys may begin with `data.`"""
    given: dict[str, Any] = {"path": path if "://" in path else os.path.abspath(os.path.expanduser(path))}
    for text in overrides:
        keys, value = parse_override(text.removeprefix("data."), _SCHEMA)
        inner = given
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
    return given


def _config(given: dict[str, Any]) -> DataConfig:
    try:
        return _ADAPTER.validate_json(json.dumps(given))
    except ValidationError as error:
        fault = error.errors()[0]
        place = _SCHEMA.known_part(fault["loc"])
        text = (
            str(fault["ctx"]["error"])
            if fault["type"] == "value_error"
            else (f"given {quoted(fault['input'])}, expected {_SCHEMA.expected(place)}")
        )
        raise UserError(f"--set {dotted(place)}: {text}" if place else text) from None


def _parse() -> argparse.Namespace:
    parser = command_parser(
        "etarec.describe", "Print what is understood of an interaction log, and the section `data` that reads it."
    )
    parser.add_argument("file", metavar="FILE", help="file, folder of parts, or address")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="key=value",
        help="keys of the section `data`, such as columns.user=1 columns.item=2",
    )
    parser.add_argument(
        "--write", type=Path, metavar="EXPERIMENT", help="new experiment file (YAML) with that section, ready to search"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
