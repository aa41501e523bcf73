"""Files and arrays on disk that are complete or absent, even if a writer is killed.

`write_whole` and `whole_file` write one file. `look_up` keeps arrays that are expensive to compute. The arrays under
one key are an artifact: a folder of .npy files, which the processes of a node map into memory and share. Its manifest
holds the key and the files' digests; an artifact that does not match its manifest is computed again. A complete
artifact is renamed into place. If the disk fails, the arrays are computed in memory.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

Arrays = dict[str, npt.NDArray[Any]]
Layout = dict[str, tuple[type, tuple[int, ...]]]  # dtype and shape by name

# Keep at most this many artifacts and bytes; the least recently used go first.
MAX_ARTIFACTS, MAX_BYTES = 1000, 4 * 2**30
LOCK_SECONDS = 3600.0  # a process that has waited this long for another one's lock computes the arrays itself
TRIES = 3  # of `try_folder`
MANIFEST = "manifest.json"
PREFIX = "shared-"


def look_up(folder: Path | None, key: list[str], layout: Layout, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays kept in `folder` under `key`; if there are none, or they are damaged, `compute` makes them anew.

    `layout` gives their names, dtypes and shapes. Arrays from disk are read-only. Without a folder, none are kept.
    """
    if folder is None:
        return compute()
    place = folder / f"{PREFIX}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"
    found = _opened(place, key, layout)
    if found is None:
        with _locked(place):
            found = _opened(place, key, layout)  # the previous holder of the lock may have kept them
            if found is None:
                computed = compute()
                _keep(place, key, computed)
                found = _opened(place, key, layout) or computed
    return found


def _opened(place: Path, key: list[str], layout: Layout) -> Arrays | None:
    """The arrays of the artifact `place`, or None unless its key, digests, names, dtypes and shapes all match."""
    try:
        if json.loads((place / MANIFEST).read_text()) != _manifest(place, key):
            return None
        arrays: Arrays = {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in place.glob("*.npy")}
    except (OSError, ValueError, RecursionError):
        return None
    if {name: (array.dtype.type, array.shape) for name, array in arrays.items()} != layout:
        return None
    with suppress(OSError):
        os.utime(place)  # the time of the last use, for `_remove_old`
    return arrays


def _locked(place: Path) -> AbstractContextManager[Any]:
    """A lock under which one process of a node computes while the others wait; no lock if the disk offers none."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{place}.lock").acquire(timeout=LOCK_SECONDS)
    except (OSError, NotImplementedError):
        return nullcontext()


def _keep(place: Path, key: list[str], arrays: Arrays) -> None:
    """Write the arrays as the artifact `place`. A failing disk is no error: the arrays are then not kept."""
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        for left in place.parent.glob(f".{place.name}.*"):  # from killed writers: only the holder of the lock writes
            _remove(left)
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / MANIFEST).write_text(json.dumps(_manifest(partial, key)))
        _remove(place)
        partial.rename(place)
        _remove_old(place.parent)
    except OSError:
        with suppress(OSError):
            _remove(partial)


def _manifest(place: Path, key: list[str]) -> dict[str, Any]:
    return {"key": key, "sha256": {path.name: file_sha256(path) for path in sorted(place.glob("*.npy"))}}


def _remove_old(folder: Path) -> None:
    """Remove the least recently used artifacts beyond MAX_ARTIFACTS and MAX_BYTES.

    A process that has mapped a removed artifact can still read it. Lock files stay, because a process may hold them.
    Folders that are not artifacts of this user stay, whatever their names.
    """
    places = filter(_is_artifact, folder.glob(f"{PREFIX}*"))
    total = 0
    for n, place in enumerate(sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)):
        total += sum(path.stat().st_size for path in place.iterdir())
        if n >= MAX_ARTIFACTS or (n and total > MAX_BYTES):
            _remove(place)


def _is_artifact(place: Path) -> bool:
    """Whether `look_up` made the folder: its name is a digest, and its manifest has the form of `_manifest`."""
    try:
        ours = not place.is_symlink() and place.stat().st_uid == os.geteuid()
        if not (ours and re.fullmatch(f"{PREFIX}[0-9a-f]{{16}}", place.name)):
            return False
        return json.loads((place / MANIFEST).read_text()).keys() == {"key", "sha256"}
    except (OSError, ValueError, AttributeError):
        return False


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def try_folder(folder: Path, size: int = 1) -> None:
    """Write a file of `size` bytes in the folder and remove it again, with the folders that had to be made for it.

    Raises OSError if the folder cannot be made, does not take a file, or has no room for it.
    """
    made = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    for attempt in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".", suffix=".partial") as file:
                file.write(b"0")
                file.flush()
                os.posix_fallocate(file.fileno(), 0, size)
            return
        except FileNotFoundError:  # another process has just removed the folders that it had made for its own try
            if attempt == TRIES - 1:
                raise
        finally:
            for one in made:
                with suppress(OSError):  # not empty: another process uses it
                    one.rmdir()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` to the file `path`, text as UTF-8. If it fails, the file is left as it was."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def naming_file(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Give an OSError of the block the name of `path`, if it names `partial` or, as errors of writing do, no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(partial):
            error.filename = str(path)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; after the block, the file written there replaces `path`.

    If the block raises, `path` is left as it was. The temporary name is unique, so several processes may write the same
    file at the same time.
    """
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")  # without the name, which may be as long as can be
    try:
        with naming_file(path, partial):
            yield partial
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
