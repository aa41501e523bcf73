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
from search.running import mps

PREFIX, DIGITS = ".etarec-", 14
RAY = "ray"  # Ray opens its folder to everybody (0777), so it gets one inside ours (0700)
MARKER = "about"
# A socket's path has at most 107 characters: 16 of the base, 23 and 4 of these two folders, 64 of Ray's files in them.
LONGEST_BASE = 16
_NAME = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{{DIGITS}}}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW  # opening a pipe of that name does not block


@contextmanager
def scratch(warn: Callable[[str], Any]) -> Iterator[Path]:
    """A folder for the time of the block that only this user can enter. `warn` gets a message per folder removed."""
    base = _base()
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
            _remove_patiently(folder, inside)


def _base() -> Path:
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    base = Path(wanted if len(os.fsencode(wanted)) <= LONGEST_BASE else "/tmp")
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        expected = "expected a folder, or a path at which one can be made"
        raise UserError(f"RAY_TMPDIR={base}: {expected} ({error.strerror})") from None
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
