"""The journal of a search: one event per line, written to disk before the rest of the program learns of the event.

An incomplete last line is an event that never happened. The next event is written over it.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from etarec.config import UserError
from etarec.disk import naming_file

JOURNAL = "trials.jsonl"


def holds_search(directory: Path) -> bool:
    """Whether a search has begun in this folder."""
    return (directory / JOURNAL).is_file()


def lines(journal: Path) -> list[bytes]:
    """The complete lines of the journal."""
    return journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []


def append(journal: Path, event: dict[str, Any]) -> dict[str, Any]:
    """Write the event to disk and return it as a reader will find it.

    Raises ValueError for a number that JSON does not have, and then writes nothing.
    """
    line = json.dumps(event, allow_nan=False) + "\n"
    with naming_file(journal), journal.open("ab+") as file:
        _cut_torn_line(file, journal)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    read_back: dict[str, Any] = json.loads(line)
    return read_back


def _cut_torn_line(file: BinaryIO, journal: Path) -> None:
    size = file.seek(0, os.SEEK_END)
    if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
        file.truncate(journal.read_bytes().rfind(b"\n") + 1)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep other processes from writing here during the block; the lock of a killed process is released with it.

    Raises UserError where another process is writing, or where this user cannot write to the journal.
    """
    journal = directory / JOURNAL
    try:
        lock = os.open(journal, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{journal}: {error.strerror}, expected a file that this user can read and write") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{directory}: a search is still running here; wait for its end, or stop it") from error
        yield
    finally:
        os.close(lock)
