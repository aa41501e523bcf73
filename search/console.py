"""The terminal's output of a search: progress bars on a terminal, plain lines elsewhere."""

import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from etarec.checkpoint import Checkpoint
from etarec.clock import Stopwatch
from etarec.command_line import short_path
from etarec.data import Interactions, rehearsal_text
from etarec.evaluate import Measurement
from etarec.kernels import build
from etarec.metrics import EARLY_STOPPING, label, labelled
from search.records import Ending, Records, State, Trial, frequent_reason
from search.redact import shown_uri
from search.running.plan import Plan
from search.selection.front import Point, Selection
from search.spec import Spec

T = TypeVar("T")

WIDTH, LABEL_WIDTH = 80, 12  # columns
RAY_START = 15  # seconds, about
EXPECTED_FRONT = 12  # points, a usual size; the front is not known before the search


class Console:
    """All output goes through here; nothing else prints. Lines fit 80 columns where paths and numbers let them."""

    def __init__(self) -> None:
        self.out = Terminal(highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = max(self.out.width, 140)  # a log file has no edge to break a table at

    def line(self, text: str) -> None:
        self.out.print(text, markup=False)

    def entry(self, label: str, *lines: str) -> None:
        """Print a label, such as `report`, and lines below each other to its right."""
        for place, text in enumerate(lines):
            self.line(f"{label if place == 0 else '':{LABEL_WIDTH}}{text}")

    def prose(self, label: str, text: str) -> None:
        """Print a label and a sentence to its right, broken into lines of 80 columns."""
        self.entry(label, *textwrap.wrap(text, WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False))

    def warn(self, text: str) -> None:
        self.out.print(f"warning: {text}", style="yellow", markup=False)

    def error(self, text: str) -> None:
        """Print a message on standard error; the program then ends with an exit status other than 0."""
        print(f"error: {text}", file=sys.stderr)

    def data(self, spec: Spec, data: Interactions) -> None:
        source = spec.data.path or f"embedded data '{spec.data.dataset}'"
        samples = ", ".join(f"{count:,} {split}" for split, count in data.sample_counts().items())
        counts = f"{source}: {data.n_users:,} users, {data.n_items - 1:,} items"
        self.entry("data", counts, f"samples: {samples}", *data.reading.summary())
        for doubt in data.reading.doubts:
            self.warn(doubt)

    def checkpoint(self, spec: Spec, checkpoint: Checkpoint, path: Path) -> None:
        metrics = dict.fromkeys((spec.search.quality, EARLY_STOPPING))
        valid = labelled(checkpoint.valid, metrics)
        self.entry("checkpoint", f"{short_path(path)}: epoch {checkpoint.epochs}", f"validation {valid}")

    def rehearsal(self, spec: Spec, held_out: Interactions, checkpoint: Checkpoint, path: Path) -> None:
        valid = labelled(checkpoint.valid, [spec.search.quality])
        self.prose("rehearsal", f"trials {rehearsal_text(held_out.sample_counts())}, with {valid}:")
        self.entry("", short_path(path))

    def to_rehearse(self, held_out: Interactions) -> None:
        where = rehearsal_text(held_out.sample_counts(), "a second checkpoint")
        self.prose("rehearsal", f"trials {where}")

    def plan(self, spec: Spec, plan: Plan, directory: Path) -> None:
        search = spec.search
        self.entry("search", f"{search.trials} trials, sampler {search.sampler}; files in {short_path(directory)}")
        self.entry("searched", *(f"{name} {dimension}" for name, dimension in spec.space.items()))
        self.prose("resources", str(plan))
        if plan.note:
            self.prose("note", plan.note)
        if build.kind() == "torch" and not plan.gpus_per_trial:
            self.entry("note", "no C compiler here: TTT4Rec's inner loop runs at half its speed")

    def pilot(
        self,
        spec: Spec,
        plan: Plan,
        pilot: Measurement,
        served: Measurement,
        epoch_seconds: float | None,
        data: Interactions,
    ) -> None:
        """Print the expected duration of a search.

        Args:
            spec: the search.
            plan: how many trials run at once.
            pilot: one trial.
            served: the same configuration measured as on test, without looked-up passes.
            epoch_seconds: duration of one training epoch; None with a trained checkpoint.
            data: the data of both measurements, on whose validation split they ran.
        """
        front = min(EXPECTED_FRONT, spec.search.trials) + len(spec.baselines)
        seconds, test_seconds = _seconds_each(pilot, served, data)
        search = RAY_START + math.ceil(spec.search.trials / plan.concurrency) * seconds
        test = math.ceil(front / plan.concurrency) * test_seconds
        if epoch_seconds is not None:
            most = f"at most {spec.train.epochs}, until validation stops improving"
            self.entry("training", f"first: {epoch_seconds:.0f} s an epoch, {most}")
        self.entry("pilot", f"one trial takes {seconds:.1f} s, one configuration on test about {test_seconds:.0f} s")
        minutes = f"{search / 60:.1f} min of search, {test / 60:.1f} min of test"
        self.entry("expected", f"{minutes} (about {front} configurations)")
        store = shown_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
        self.entry("MLflow", f"experiment '{spec.name}' in {store}")
        self.line("nothing was started or written (--dry-run)")

    @contextmanager
    def trials(self, spec: Spec, records: Records) -> Iterator[Callable[[Trial], None]]:
        """Yield a function that prints a trial when it has ended, above a progress bar."""
        ended = len(records.in_state(State.FINISHED, State.FAILED))
        with self._progress() as progress:
            task = progress.add_task("trials", total=spec.search.trials, completed=ended)

            def show(trial: Trial) -> None:
                if trial.state is State.RUNNING:
                    return
                self.line(f"  {_trial_line(spec, trial)}")
                progress.update(task, completed=len(records.in_state(State.FINISHED, State.FAILED)))

            yield show

    def counted(self, what: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Pass on measurements on the split `what`, above a progress bar, and print their duration."""
        stopwatch = Stopwatch()
        with self._progress() as progress:
            yield from progress.track(items, total=total, description=what)
        self.line(f"  {total} configuration{'s' * (total != 1)} measured on {what} in {stopwatch.seconds:.0f} s")

    def result(self, spec: Spec, records: Records, selected: Selection, directory: Path, ending: Ending) -> None:
        counts = {str(s): len(records.in_state(s)) for s in (State.FINISHED, State.FAILED, State.KILLED)}
        self.entry("trials", ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count))
        if selected.front:
            self.out.print(self._front(spec, selected))
        if selected.choice and selected.chosen:
            self.prose("chosen", f"{selected.chosen.name}: {selected.choice.reason}")
        if ending is not Ending.INTERRUPTED and not records.in_state(State.FINISHED):
            self.error(_all_failed(records, ending))
        elif ending is not Ending.COMPLETE:
            self.warn(f"the search ended early ({ending}), so nothing is reported from test; --resume continues it")
        elif len(records.trials) < spec.search.trials:
            self.warn(f"the space holds only {len(records.trials)} configurations, and all of them were measured")
        self.entry("report", short_path(directory / "report.html"))

    def _front(self, spec: Spec, selected: Selection) -> Table:
        table = Table(title="Pareto front and baselines", title_justify="left", box=None, pad_edge=False)
        table.add_column("")
        searched = [name if len(name) < LABEL_WIDTH else name.replace("_", "_\n", 1) for name in spec.space]
        quality = label(spec.search.quality)
        for name in (*searched, "validation\nfilter rate", f"\n{quality}", "test\nfilter rate", f"\n{quality}"):
            table.add_column(name, justify="right")
        for point in [*selected.front, *selected.baselines]:
            chosen = selected.chosen is not None and point.name == selected.chosen.name
            table.add_row(*_cells(spec, point), style="bold" if chosen else None)
            if selected.front and point is selected.front[-1]:
                table.add_section()
        return table

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.out, transient=True, disable=not self.out.is_terminal)


def _seconds_each(pilot: Measurement, served: Measurement, data: Interactions) -> tuple[float, float]:
    """Seconds of one trial, and of one configuration on test."""
    samples = data.sample_counts()
    return pilot.seconds["seconds"], served.seconds["seconds"] * samples["test"] / samples["valid"]


def _all_failed(records: Records, ending: Ending) -> str:
    failed = records.in_state(State.FAILED)
    reason, count = frequent_reason(trial.error for trial in failed)
    text = f"every trial failed, {count} of {len(failed)} with: {reason}; "
    if ending is Ending.FAILING:
        return f"{text}the search ended early ({ending}), and --resume measures the trials that it has not begun"
    return f"{text}--resume does not repeat failed trials, so start a new search when the cause is fixed"


def _trial_line(spec: Spec, trial: Trial) -> str:
    values = "  ".join(f"{name} {_value(value)}" for name, value in trial.parameters.items())
    if trial.state is not State.FINISHED:
        return f"{trial.trial_id}  {trial.state}  {values}  {trial.error}"
    quality, metrics = spec.search.quality, trial.metrics
    return (
        f"{trial.trial_id}  {label(quality)} {metrics[quality]:.4f}  filter rate {metrics['filter_rate']:6.1%}  "
        f"{metrics['seconds']:5.1f} s  {values}"
    )


def _cells(spec: Spec, point: Point) -> list[str]:
    # Most baselines do not depend on the searched parameters, so these cells stay empty.
    searched = [_value(getattr(point.config, name)) if point.name.startswith("trial-") else "" for name in spec.space]
    tested = point.test.metrics() if point.test else {}
    measured = [
        cell
        for values in (point.valid, tested)
        for cell in ([f"{values['filter_rate']:.1%}", f"{values[spec.search.quality]:.4f}"] if values else ["", ""])
    ]
    return [point.name, *searched, *measured]


def _value(value: object) -> str:
    return "all" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
