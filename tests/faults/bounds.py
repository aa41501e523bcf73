"""Disk and memory that a long search needs: python -m tests.faults.bounds [TRIALS]."""

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.stage import Search, family

MIB = 2**20


@dataclass
class Bounds:
    """Needs of one search. Sizes are in bytes."""

    seconds: float
    kept: int  # output folder
    store: int  # MLflow's SQLite store
    scratch: int  # Ray's files, at most
    left: int  # Ray's files after the end
    early: int  # resident memory of the driver after a tenth of the trials
    late: int  # the largest resident memory of the driver
    processes: int  # processes alive after the end

    def __str__(self) -> str:
        sizes = {name: getattr(self, name) / MIB for name in ("kept", "store", "scratch", "left", "early", "late")}
        counts = f"{self.seconds:.0f} s, {self.processes} processes left behind"
        return ", ".join([f"{name} {size:.1f} MiB" for name, size in sizes.items()] + [counts])


def measure(folder: Path, temporary: Path, trials: int) -> Bounds:
    """Run a search of `trials` trials that cost nothing, in `folder`; `temporary`, a short path, holds Ray's files."""
    begin = time.monotonic()
    search = Search(folder, trials, 0.0, f"sqlite:///{folder}/mlflow.db", None, temporary)
    driver, scratch, early, late = psutil.Process(search.process.pid), 0, 0, 0
    members = {driver}
    while search.running:
        try:
            late = max(late, driver.memory_info().rss)
        except psutil.Error:
            break
        early = early or (late if _begun(search.directory) > trials / 10 else 0)
        scratch = max(scratch, size(temporary))
        members |= set(family(search.process))
        time.sleep(0.5)
    status = search.process.wait()
    if status:
        raise RuntimeError(f"exit status {status}: {search.output[-2000:]}")
    seconds = time.monotonic() - begin
    _, alive = psutil.wait_procs([member for member in members if member.is_running()], timeout=30)
    kept, store = size(search.directory), size(folder / "mlflow.db")
    return Bounds(seconds, kept, store, scratch, size(temporary), early, late, len(alive))


def _begun(directory: Path) -> int:
    journal = directory / "trials.jsonl"
    return journal.read_bytes().count(b'"event": "started"') if journal.exists() else 0


def size(path: Path) -> int:
    """Bytes on disk of a file or of everything below a folder. A file that vanishes meanwhile counts as 0."""
    below = (Path(folder, name) for folder, folders, files in os.walk(path) for name in folders + files)
    total = 0
    for file in itertools.chain([path], below):
        with contextlib.suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total


if __name__ == "__main__":
    places = [Path(tempfile.mkdtemp(prefix="fb", dir="/tmp")) for _ in range(2)]
    try:
        print(measure(*places, int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
