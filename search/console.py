"""The terminal's output of a search: progress bars on a terminal, plain lines elsewhere."""

import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from search import numbers
from search.records import Ending, Records, Source, State, Trial, frequent_reason
from search.redact import shown_uri
from search.report.answer import Answer
from search.running.plan import Plan
from search.selection.chance import gate_rate
from search.selection.view import Row, View
from search.spec import Spec

T = TypeVar("T")

WIDTH, LABEL_WIDTH, CONFIGURATION_WIDTH = 80, 12, 16  # columns
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

    def plan(self, spec: Spec, plan: Plan, directory: Path, earlier: Sequence[Source] = ()) -> None:
        search = spec.search
        self.entry("search", f"{search.budget} trials, sampler {search.sampler}; files in {short_path(directory)}")
        shown = (f"{name} ({numbers.short_name(name)}) {dimension}" for name, dimension in spec.space.items())
        self.entry("searched", *shown)
        if earlier:
            self.entry("earlier", *(str(replace(one, folder=short_path(Path(one.folder)))) for one in earlier))
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
        front = min(EXPECTED_FRONT, spec.search.budget) + len(spec.baselines)
        seconds, test_seconds = _seconds_each(pilot, served, data)
        search = RAY_START + math.ceil(spec.search.budget / plan.concurrency) * seconds
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
        taken = len(records.taken)
        with self._progress() as progress:
            ended = len(records.in_state(State.FINISHED, State.FAILED)) - taken
            task = progress.add_task("trials", total=spec.search.budget, completed=ended)

            def show(trial: Trial) -> None:
                if trial.state is State.RUNNING:
                    return
                for text in _trial_lines(spec, trial):
                    self.line(text)
                progress.update(task, completed=len(records.in_state(State.FINISHED, State.FAILED)) - taken)

            yield show

    def counted(self, what: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Pass on measurements on the split `what`, above a progress bar, and print their duration."""
        stopwatch = Stopwatch()
        with self._progress() as progress:
            yield from progress.track(items, total=total, description=what)
        self.line(f"  {total} configuration{'s' * (total != 1)} measured on {what} in {stopwatch.seconds:.0f} s")

    def result(self, spec: Spec, records: Records, answer: Answer, directory: Path, ending: Ending) -> None:
        """Print the end of a search: the table, then the verdict, which stays in view above the prompt."""
        counts = {str(s): len(records.in_state(s)) for s in (State.FINISHED, State.FAILED, State.KILLED)}
        of_earlier = f", {len(records.taken)} of them in earlier searches" if records.taken else ""
        ended = ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count)
        self.entry("trials", ended + of_earlier)
        if answer.front:
            self.out.print(_table(answer))
            self._footnotes(answer)
        self._verdict(answer)
        if ending is not Ending.INTERRUPTED and not records.in_state(State.FINISHED):
            self.error(_all_failed(records, ending))
        elif ending is not Ending.COMPLETE:
            self.warn(f"the search ended early ({ending}), so nothing is reported from test; --resume continues it")
        elif len(records.trials) - len(records.taken) < spec.search.budget:
            self.warn(f"the space holds only {_counted(len(records.trials), 'configuration')}; all were measured")
        self.entry("report", short_path(directory / "report.html"))
        if answer.chosen:
            self.prose("next", f"{answer.purpose()}:")
            self.entry("", *answer.command(Path(short_path(directory))).splitlines())

    def _verdict(self, answer: Answer) -> None:
        self.prose("verdict", answer.advice.title)
        for reason in answer.advice.reasons:
            self.prose("", reason)
        marks = {"good": "+", "bad": "-", "note": "o"}
        self.entry("findings", *(f"{marks[finding.tone]} {finding.title}" for finding in answer.findings))

    def _footnotes(self, answer: Answer) -> None:
        self.entry("", "* the chosen configuration")
        if along := answer.along_front:
            rates = [answer.view.skipped(row) for row in along]
            spread = f"{min(rates):.0%} to {max(rates):.0%}"
            self.entry("", f"random skipping at {_counted(len(along), 'more rate')}, {spread}, is in the report")

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


def _trial_lines(spec: Spec, trial: Trial) -> list[str]:
    """A trial's result in one line where 80 columns suffice; no word is broken."""
    configuration = numbers.configuration(trial.parameters)
    if trial.state is not State.FINISHED:
        text = f"{trial.trial_id}  {trial.state}  {configuration}  {trial.error}"
    else:
        quality, metrics = spec.search.quality, trial.metrics
        text = (
            f"{trial.trial_id}  {label(quality)} {metrics[quality]:.4f}  skipped {gate_rate(metrics):5.1%}  "
            f"compute {metrics['arithmetic']:3.0%}  {metrics['seconds']:4.1f} s  {configuration}"
        )
    shape = textwrap.TextWrapper(WIDTH, initial_indent="  ", subsequent_indent=" " * 14)
    shape.break_long_words = shape.break_on_hyphens = False
    return shape.wrap(text)


def _table(answer: Answer) -> Table:
    """The front and the baselines in 80 columns. Random skipping along the front stays out."""
    table = Table(
        title="Pareto front and baselines", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    rows = [row for row in (*answer.front, *answer.fixed) if row not in answer.along_front]
    texts = {str(row["trial_id"]): _configuration(answer, row) for row in rows}
    shown = max(map(len, texts.values())) <= CONFIGURATION_WIDTH
    table.add_column("", no_wrap=True)
    if shown:
        table.add_column("\nconfiguration", no_wrap=True)
    quality = answer.view.label
    for name in ("valid\nskipped", f"valid\n{quality}", "test\nskipped", f"test\n{quality}", "test\ncompute"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("\non test", no_wrap=True)
    for row in rows:
        chosen = answer.chosen is not None and row["trial_id"] == answer.chosen["trial_id"]
        table.add_row(*_cells(answer, row, [texts[str(row["trial_id"])]] * shown), style="bold" if chosen else None)
        if row is answer.front[-1]:
            table.add_section()
    return table


def _cells(answer: Answer, row: Row, configuration: list[str]) -> list[str]:
    name, valid = str(row["trial_id"]), View("valid", answer.view.metric)
    mark = " *" if answer.chosen is not None and name == answer.chosen["trial_id"] else ""
    cells = [name + mark, *configuration, f"{valid.skipped(row):.1%}", numbers.score(valid.quality(row))]
    tested = View("test", answer.view.metric)
    if not tested.measured(row):
        return [*cells, "", "", "", ""]
    computing = tested.computing(row)
    cells += [f"{tested.skipped(row):.1%}", numbers.score(tested.quality(row))]
    return [*cells, "" if computing is None else f"{computing:.0%}", str(answer.judged[name].judgement)]


def _configuration(answer: Answer, row: Row) -> str:
    """The searched parameters; most baselines do not depend on them, so their cells stay empty."""
    if row["trial_id"] in answer.baselines:
        return ""
    return numbers.configuration({name: row[name] for name in answer.run.parameters})


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
