"""Folders for Ray's files. A search removes its own folder at its end, and a later search those of killed searches.

Only folders that this program made are removed: `scratch` gives such names, a marker file inside repeats the name, and
both belong to this user. A search locks its folder before it writes the marker, so a marker in an unlocked folder means
that the search was killed.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.running import mps
from search.running.signals import uninterrupted

PREFIX, DIGITS = ".etarec-", 14
RAY = "ray"  # Ray opens its folder to everybody (0777), so it gets one inside ours (0700)
MARKER = "about"
# A socket's path has at most 107 characters: 16 of the base, 23 and 4 of these two folders, 64 of Ray's files in them.
LONGEST_BASE = 16
RAY_FILES, RAY_BYTES = 500, 2**27  # twice what Ray's files took in a search of 1,000 trials: docs/reliability.md
_SOURCE = "RAY_TMPDIR, the folder for temporary files"
_NAME = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{{DIGITS}}}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW  # opening a pipe of that name does not block
SHORT_BASE = "/tmp"  # noqa: S108 - POSIX has it on every system; the base where TMPDIR is too long for these sockets


@contextmanager
def scratch(warn: Callable[[str], Any]) -> Iterator[Path]:
    """A folder for the time of the block that only this user can enter. `warn` gets a message per folder removed."""
    base = _base()
    check_folder(base, _SOURCE)
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob(f"{PREFIX}*"):
        if _remove_left(left):
            warn(f"removed {left}, the temporary files of a search that was killed")
    folder = base / f"{PREFIX}{secrets.token_hex(DIGITS // 2)}"
    folder.mkdir(mode=0o700)
    with _opened(folder, _FOLDER) as inside:
        try:
            fcntl.flock(inside, fcntl.LOCK_EX)
            (folder / MARKER).write_bytes(_mark(folder.name))
            yield folder
        finally:
            with uninterrupted():
                _remove_patiently(folder, inside)


def is_scratch(path: Path) -> bool:
    """Whether a path lies in the folder of a search, as its name tells."""
    return any(_NAME.fullmatch(part) for part in path.parts)


def check_scratch() -> None:
    """Raise UserError if Ray's files cannot be written to the folder for temporary files."""
    check_folder(_base(), _SOURCE, RAY_BYTES, RAY_FILES)


def _base() -> Path:
    """Raises UserError for a RAY_TMPDIR below which Ray's sockets would have too long paths."""
    given, usual = os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir()
    if not given:
        return Path(usual if len(os.fsencode(usual)) <= LONGEST_BASE else SHORT_BASE)
    base = Path(given).expanduser().absolute()
    if (size := len(os.fsencode(base))) > LONGEST_BASE:
        raise UserError(
            f"RAY_TMPDIR={given}: the path has {size} bytes, expected at most {LONGEST_BASE}, because the paths of "
            "Ray's sockets below it are limited; a symbolic link such as /tmp/ray-here will do"
        )
    return base


def _mark(name: str) -> bytes:
    return f"{name}: temporary files of a search by etarec, gone with it, after a kill with the next one\n".encode()


@contextmanager
def _opened(path: Path | str, flags: int, inside: int | None = None) -> Iterator[int]:
    """A file descriptor of the path, relative to the folder `inside` if one is given."""
    opened = os.open(path, flags, dir_fd=inside)
    try:
        yield opened
    finally:
        os.close(opened)


def _remove_left(folder: Path) -> bool:
    """Removes the folder of a killed search. False for any other folder, and if it could not be removed."""
    try:
        with _opened(folder, _FOLDER) as inside:
            if not _is_ours(folder.name, inside):
                return False
            fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mps.end(folder)
            return _remove(folder, inside)
    except OSError:  # no folder, without a marker, closed to this user, or locked by a living search
        return False


def _is_ours(name: str, inside: int) -> bool:
    if not _NAME.fullmatch(name) or os.fstat(inside).st_uid != os.geteuid():
        return False
    with _opened(MARKER, _FILE, inside) as marker:
        return os.fstat(marker).st_uid == os.geteuid() and os.read(marker, 1000) == _mark(name)


def _remove_patiently(folder: Path, inside: int) -> None:
    """Removes the folder, in several attempts: Ray's processes write their last lines while they end."""
    for _ in range(20):
        if _remove(folder, inside):
            break
        time.sleep(0.1)


def _remove(folder: Path, inside: int) -> bool:
    """Removes the folder; True if it is gone. The marker goes last, so that a later search can finish the removal."""
    try:
        with os.scandir(inside) as entries:
            others = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name != MARKER]
        for name, is_folder in others:
            shutil.rmtree(name, ignore_errors=True, dir_fd=inside) if is_folder else os.unlink(name, dir_fd=inside)
        if set(os.listdir(inside)) <= {MARKER}:
            (folder / MARKER).unlink(missing_ok=True)
            folder.rmdir()
            return True
    except OSError:  # an entry came or went meanwhile
        pass
    return False
