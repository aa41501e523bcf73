"""Interleaved, paired repeats: the machine's speed drifts, so only runs side by side are compared."""

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch


class Timed(NamedTuple):
    """Seconds of one run; cpu includes child processes that have ended."""

    cpu: float
    wall: float


class Ratio(NamedTuple):
    """Median and range of the ratios of pairs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def timed(work: Callable[[], Any]) -> Timed:
    cpu, wall = _cpu(), time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Timed(_cpu() - cpu, time.perf_counter() - wall)


def _cpu() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def interleaved(works: Sequence[Callable[[], Any]], repeats: int) -> list[list[Timed]]:
    """`repeats` rounds of all works in turn, every second round in reverse order."""
    runs: list[list[Timed]] = [[] for _ in works]
    numbered = list(enumerate(works))
    for repeat in range(repeats):
        for number, work in numbered if repeat % 2 == 0 else reversed(numbered):
            runs[number].append(timed(work))
    return runs


def cpu(runs: Sequence[Timed]) -> float:
    """Median CPU seconds."""
    return median(run.cpu for run in runs)


def ratio(slow: Sequence[Timed], fast: Sequence[Timed]) -> Ratio:
    """CPU seconds of `slow` over those of `fast`, pair by pair."""
    ratios = [a.cpu / b.cpu for a, b in zip(slow, fast, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
