"""File systems of a chosen size, for tests of disks that are full, have no inodes, or become read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096  # bytes; a file on tmpfs takes whole pages


class Disk:
    """A file system in memory, mounted on a folder."""

    def __init__(self, place: Path):
        self.place = place

    def resize(self, *, pages: int, inodes: int = 1000) -> None:
        """Give the disk room for `pages` pages of files and `inodes` files, folders included."""
        _mount("-o", f"remount,size={pages * PAGE},nr_inodes={inodes}", str(self.place))

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Every path of the disk is read-only in the block, also for processes that use it already."""
        _mount("--bind", str(self.place), str(self.place))  # over it: the disk itself has files that are open to write
        try:
            _mount("-o", "remount,ro,bind", str(self.place))
            yield
        finally:
            _unmount(self.place)


@contextmanager
def disk(place: Path, *, pages: int = 16384) -> Iterator[Disk]:
    """A disk at the folder `place`, which is made. The test is skipped where file systems cannot be mounted."""
    place.mkdir(exist_ok=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={pages * PAGE}", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}); it takes root on Linux")
    try:
        yield Disk(place)
    finally:
        _unmount(place)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)
