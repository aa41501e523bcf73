"""Seconds by part, with made-up ticks of the CPU's and the GPU's clock."""

from collections.abc import Iterator

import pytest
import torch

from etarec.clock import Clock, Stopwatch


def ticking(patch: pytest.MonkeyPatch, clock: str, *ticks: float) -> None:
    following = iter(ticks)
    patch.setattr(f"etarec.clock.time.{clock}", lambda: next(following))


def test_a_stopwatch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, "perf_counter", 3.0, 5.0, 9.0)
    stopwatch = Stopwatch()
    assert [stopwatch.seconds, stopwatch.seconds] == [2.0, 6.0]


def test_a_clock_adds_up_cpu_seconds_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, "process_time", 0.0, 1.0, 10.0, 12.0, 20.0, 24.0)
    clock = Clock(torch.device("cpu"))
    for part in ("gate", "forward", "gate"):
        with clock(part):
            pass
    assert [clock.seconds(part) for part in ("gate", "forward", "adapt")] == [5.0, 2.0, 0.0]


class Event:
    """A CUDA event, recorded at the next of `moments` in milliseconds."""

    moments: Iterator[float]

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.moment = next(Event.moments)

    def elapsed_time(self, end: "Event") -> float:
        return end.moment - self.moment


def test_a_gpu_is_waited_for_only_when_its_seconds_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[None] = []
    Event.moments = iter([0.0, 500.0, 500.0, 750.0, 1000.0, 3000.0])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(None))
    clock = Clock(torch.device("cuda"))
    for part in ("gate", "forward"):
        with clock(part):
            pass
    assert waits == [] and clock.seconds("gate") == 0.5
    with clock("gate"):
        pass
    assert [clock.seconds("gate"), clock.seconds("forward")] == [2.5, 0.25]  # each event counts once
    assert len(waits) == 2
