"""The progress of a phase of work: a line that is redrawn on a terminal, plain lines under a minute apart elsewhere.

A phase takes seconds to hours: loading, training, measuring. Where the number of its steps is known it counts them,
otherwise it shows that time passes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from etarec.clock import Stopwatch

NAME_WIDTH, COUNT_WIDTH, BAR_WIDTH, NOTE_WIDTH = 10, 9, 6, 34  # columns; with the two times a line has at most 80
LONGEST_SILENCE = 50.0  # seconds between two plain lines while a phase runs
REDRAWS = 4  # a second, on a terminal


@dataclass
class Phase:
    """The state of a phase. `total` is None where the number of its steps is unknown."""

    name: str
    total: int | None = None
    show: Callable[["Phase"], None] = lambda phase: None
    done: int = 0
    note: str = ""  # the best result so far, in words
    facts: dict[str, object] = field(default_factory=dict)  # the same as values
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def expect(self, steps: int) -> None:
        """Add steps to those known before."""
        self.total = (self.total or 0) + steps
        self.show(self)

    def advance(self, done: int | None = None, note: str | None = None, **facts: object) -> None:
        """One step more, or `done` steps in all. A note and its facts stay until the next ones."""
        self.done = self.done + 1 if done is None else done
        if note is not None:
            self.note, self.facts = note, facts
        self.show(self)

    @property
    def count(self) -> str:
        return "" if self.total is None else f"{self.done}/{self.total}"

    def __str__(self) -> str:
        """test 12/25, 34 s, the note"""
        parts = (f"{self.name} {self.count}".rstrip(), f"{self.stopwatch.seconds:.0f} s", self.note)
        return ", ".join(part for part in parts if part)


class Phases:
    """The output of a command that works in phases, one after another."""

    def __init__(self, terminal: Terminal | None = None):
        self.out = terminal or Terminal(highlight=False, soft_wrap=True)
        self._spoke = time.monotonic()

    def line(self, text: str) -> None:
        self._spoke = time.monotonic()
        self.out.print(text, markup=False)

    def tell(self, phase: Phase) -> None:
        """Print the state of a phase that has been silent for long."""
        self.line(f"  {phase}")

    def step(self, phase: Phase) -> None:
        """Called after each step where no line is redrawn."""

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """Yield a phase and show its state until the block ends."""
        phase = Phase(name, total)
        with self._redrawn(phase) if self.out.is_terminal else self._told(phase):
            yield phase

    @contextmanager
    def _redrawn(self, phase: Phase) -> Iterator[None]:
        with Progress(*_columns(), console=self.out, transient=True, refresh_per_second=REDRAWS) as bar:
            task = bar.add_task(phase.name, total=phase.total, count=phase.count, note=phase.note)

            def show(phase: Phase) -> None:
                bar.update(task, completed=phase.done, total=phase.total, count=phase.count, note=phase.note)

            phase.show = show
            yield

    @contextmanager
    def _told(self, phase: Phase) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._break_silence, args=(phase, ended), daemon=True)
        thread.start()
        phase.show = self.step
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _break_silence(self, phase: Phase, ended: threading.Event) -> None:
        while not ended.wait(max(0.01, self._spoke + LONGEST_SILENCE - time.monotonic())):
            if time.monotonic() >= self._spoke + LONGEST_SILENCE:
                self.tell(phase)


def _columns() -> tuple[TextColumn | BarColumn | TimeElapsedColumn | TimeRemainingColumn, ...]:
    return (
        _text("{task.description}", NAME_WIDTH),
        BarColumn(BAR_WIDTH),
        _text("{task.fields[count]}", COUNT_WIDTH),
        TimeElapsedColumn(Column(width=7)),
        TimeRemainingColumn(table_column=Column(width=8)),
        _text("{task.fields[note]}", NOTE_WIDTH),
    )


def _text(template: str, width: int) -> TextColumn:
    return TextColumn(template, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=width))
