"""A formula that notes when each measurement began and ended; workers import this file."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from formula import Formula

from etarec.config import AdaptConfig, SplitName
from etarec.evaluate import Measurement
from search.running.worker import import_modules


@dataclass(frozen=True)
class Timed(Formula):
    """times: a folder with a file per measurement, named by its entropy quantile and the attempt."""

    times: Path = Path()

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        begin = time.time()
        try:
            return super().measure(config, split, seed)
        finally:
            (self.times / f"{config.entropy_quantile} {begin}").write_text(f"{begin} {time.time()}")


def meet(folder: Path, count: int) -> None:
    """Returns when this number of processes has imported what a measurement needs."""
    import_modules()
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.05)


def spans(times: Path) -> dict[str, list[tuple[float, float]]]:
    """Begin and end of all measurements, by the entropy quantile and in order."""
    found: dict[str, list[tuple[float, float]]] = {}
    for file in sorted(times.iterdir()):
        begin, end = map(float, file.read_text().split())
        found.setdefault(file.name.split()[0], []).append((begin, end))
    return found


def beside(times: Path, span: tuple[float, float]) -> int:
    """How many measurements overlap this one, itself among them."""
    return sum(begin < span[1] and span[0] < end for own in spans(times).values() for begin, end in own)


def most_at_once(times: Path) -> int:
    """How many measurements ran at once, at most: counted whenever one begins."""
    known = [span for own in spans(times).values() for span in own]
    return max(sum(begin <= moment < end for begin, end in known) for moment, _ in known)
