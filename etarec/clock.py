"""Seconds: wall seconds of a whole piece of work, and seconds of its parts on the CPU or on a GPU."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """The wall seconds since it was made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begin


class Clock:
    """`with clock("gate"): ...` adds the seconds of the block to the part "gate".

    On the CPU they are CPU seconds of all threads of the process, which do not grow where other processes compete for
    the cores. A GPU works asynchronously, so its seconds are taken by CUDA events, without waiting in every block.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        if not self._cuda:
            begin_cpu = time.process_time()
            yield
            self._seconds[part] += time.process_time() - begin_cpu
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((part, begin, end))

    def seconds(self, part: str) -> float:
        """The seconds added to `part` so far, 0 for an unknown part. On a GPU it waits for the work in progress."""
        if self._events:
            torch.cuda.synchronize()
            for name, begin, end in self._events:
                self._seconds[name] += begin.elapsed_time(end) / 1000
            self._events.clear()
        return self._seconds[part]
