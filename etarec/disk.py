"""Files that are whole or absent, whatever happens while they are written.

`write_whole` and `whole_file` write one file. `look_up` keeps arrays that are expensive to compute: each artifact is a
folder of .npy files, which processes of a node map into memory and share. A manifest holds the key and the digests of
the files, and an artifact whose manifest does not match is computed again. An artifact is renamed into its place when
it is complete. Where the disk fails, the arrays are computed in memory.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

Arrays = dict[str, npt.NDArray[Any]]
Layout = dict[str, tuple[type, tuple[int, ...]]]  # dtype and shape by name

# Keep at most this many artifacts and bytes; the least recently used go first.
MAX_ARTIFACTS, MAX_BYTES = 1000, 4 * 2**30
LOCK_SECONDS = 3600.0  # a worker that waits longer for another one computes the arrays itself
MANIFEST = "manifest.json"
PREFIX = "shared-"


def look_up(folder: Path | None, key: list[str], layout: Layout, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays kept in `folder` under `key`, computed and kept first where there are none that can be believed."""
    if folder is None:
        return compute()
    place = folder / f"{PREFIX}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"
    found = _opened(place, key, layout)
    if found is None:
        with _locked(place):
            found = _opened(place, key, layout)  # by whoever held the lock before
            if found is None:
                computed = compute()
                _keep(place, key, computed)
                found = _opened(place, key, layout) or computed
    return found


def _opened(place: Path, key: list[str], layout: Layout) -> Arrays | None:
    try:
        if json.loads((place / MANIFEST).read_text()) != _manifest(place, key):
            return None
        arrays: Arrays = {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in place.glob("*.npy")}
    except (OSError, ValueError, RecursionError):
        return None
    if {name: (array.dtype.type, array.shape) for name, array in arrays.items()} != layout:
        return None
    with suppress(OSError):
        os.utime(place)  # the last use, which `_remove_old` goes by
    return arrays


def _locked(place: Path) -> AbstractContextManager[Any]:
    """One worker of a node computes and the others wait; without a lock each computes for itself."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{place}.lock").acquire(timeout=LOCK_SECONDS)
    except (OSError, NotImplementedError):
        return nullcontext()


def _keep(place: Path, key: list[str], arrays: Arrays) -> None:
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        for left in place.parent.glob(f".{place.name}.*"):  # by writers that were killed: this one has the lock
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
    digests = {}
    for path in sorted(place.glob("*.npy")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"key": key, "sha256": digests}


def _remove_old(folder: Path) -> None:
    """What another process has mapped stays readable to it: its files lose their names only. Locks may be held."""
    places = [path for pattern in (f"{PREFIX}*", f".{PREFIX}*") for path in folder.glob(pattern) if path.is_dir()]
    total = 0
    for n, place in enumerate(sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)):
        total += sum(path.stat().st_size for path in place.iterdir())
        if n >= MAX_ARTIFACTS or (n and total > MAX_BYTES):
            _remove(place)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write the file whole or leave it as it was."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for the block to write; `path` gets the file when the block ends well.

    The temporary name is each writer's own, so that several processes may write the same file at the same time.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
