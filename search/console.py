"""What a search tells the person who started it. Progress bars on a terminal, plain lines elsewhere."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from etarec.checkpoint import Checkpoint
from etarec.data import Interactions
from etarec.evaluate import Measurement
from etarec.kernels import build
from search.records import Ending, Records, State, Trial, frequent_reason
from search.redact import shown_uri
from search.running.plan import Plan
from search.selection.front import Point, Selection
from search.spec import Spec

T = TypeVar("T")

RAY_START = 15  # seconds, about
EXPECTED_FRONT = 12  # points, a usual size; the front is not known before the search


class Console:
    """All output goes through here; nothing else prints."""

    def __init__(self) -> None:
        self.out = Terminal(highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = max(self.out.width, 140)  # a log file has no edge to break a table at

    def line(self, text: str) -> None:
        self.out.print(text, markup=False)

    def warn(self, text: str) -> None:
        self.out.print(f"warning: {text}", style="yellow", markup=False)

    def error(self, text: str) -> None:
        """Where the program then ends with another exit status than 0."""
        print(f"error: {text}", file=sys.stderr)

    def data(self, spec: Spec, data: Interactions) -> None:
        samples = ", ".join(f"{count:,} {split}" for split, count in data.sample_counts().items())
        source = spec.data.path or f"embedded data '{spec.data.dataset}'"
        self.line(f"data        {source}: {data.n_users:,} users, {data.n_items - 1:,} items; samples: {samples}")

    def checkpoint(self, checkpoint: Checkpoint, path: Path) -> None:
        quality = f"HR@10 {checkpoint.valid['hr_at_10']:.4f}, NDCG@10 {checkpoint.valid['ndcg_at_10']:.4f}"
        self.line(f"checkpoint  {shown(path)}: epoch {checkpoint.epochs}, validation {quality}")

    def rehearsal(self, held_out: Interactions, checkpoint: Checkpoint, path: Path) -> None:
        counts = held_out.sample_counts()
        self.line(
            f"rehearsal   trials are measured on {counts['valid']:,} samples before test, from {shown(path)}, "
            f"trained on {counts['train']:,}: HR@10 {checkpoint.valid['hr_at_10']:.4f}"
        )

    def to_rehearse(self, held_out: Interactions) -> None:
        counts = held_out.sample_counts()
        self.line(
            f"rehearsal   trials run on {counts['valid']:,} samples before test, from a second checkpoint that is "
            f"trained on the {counts['train']:,} before those"
        )

    def plan(self, spec: Spec, plan: Plan, directory: Path) -> None:
        self.line(
            f"search      {spec.search.trials} trials, sampler {spec.search.sampler}; files in {shown(directory)}"
        )
        self.line("searched    " + "; ".join(f"{name} {dimension}" for name, dimension in spec.space.items()))
        self.line(f"resources   {plan}")
        if plan.note:
            self.line(f"note        {plan.note}")
        if build.kind() == "torch" and not plan.gpus_per_trial:
            self.line("note        no C compiler here, so TTT4Rec's inner loop runs in torch, at about half the speed")

    def pilot(
        self,
        spec: Spec,
        plan: Plan,
        pilot: Measurement,
        served: Measurement,
        epoch_seconds: float | None,
        data: Interactions,
    ) -> None:
        """The expected course of a search, from one measured trial and, without a checkpoint, one training epoch.

        served: the pilot without look-ups, as test is measured; both of `data`, on its validation split.
        """
        seconds = pilot.seconds["seconds"]
        samples = data.sample_counts()
        test_seconds = served.seconds["seconds"] * samples["test"] / samples["valid"]
        front = min(EXPECTED_FRONT, spec.search.trials) + len(spec.baselines)
        search = math.ceil(spec.search.trials / plan.concurrency) * seconds
        test = math.ceil(front / plan.concurrency) * test_seconds
        if epoch_seconds is not None:
            most = f"at most {spec.train.epochs}, until validation stops improving"
            self.line(f"training    {epoch_seconds:.0f} s an epoch, {most}")
        self.line(f"pilot       one trial takes {seconds:.1f} s, one configuration on test about {test_seconds:.0f} s")
        minutes = f"{(RAY_START + search) / 60:.1f} min of search, {test / 60:.1f} min of test"
        after = "" if epoch_seconds is None else ", after training"
        self.line(f"expected    {minutes} for about {front} configurations{after}")
        store = shown_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
        self.line(f"MLflow      experiment '{spec.name}' in {store}")
        self.line("nothing was started or written (--dry-run)")

    @contextmanager
    def trials(self, spec: Spec, records: Records) -> Iterator[Callable[[Trial], None]]:
        """Shows trial after trial as they end."""
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
        """Passes the items on and shows how many have come."""
        begin = time.perf_counter()
        with self._progress() as progress:
            yield from progress.track(items, total=total, description=what)
        self.line(
            f"  {total} configuration{'s' * (total != 1)} measured on {what} in {time.perf_counter() - begin:.0f} s"
        )

    def result(self, spec: Spec, records: Records, selected: Selection, directory: Path, ending: Ending) -> None:
        counts = {str(s): len(records.in_state(s)) for s in (State.FINISHED, State.FAILED, State.KILLED)}
        self.line("trials      " + ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count))
        if selected.front:
            self.out.print(self._front(spec, selected))
        if selected.choice and selected.chosen:
            self.line(f"chosen      {selected.chosen.name}: {selected.choice.reason}")
        if ending is not Ending.INTERRUPTED and not records.in_state(State.FINISHED):
            self.error(_all_failed(records, ending))
        elif ending is not Ending.COMPLETE:
            self.warn(f"the search ended early ({ending}), so test was not looked at; --resume goes on with it")
        elif len(records.trials) < spec.search.trials:
            self.warn(f"the space holds no more than {len(records.trials)} configurations; all were measured")
        self.line(f"report      {shown(directory / 'report.html')}")

    def _front(self, spec: Spec, selected: Selection) -> Table:
        table = Table(title="Pareto front and baselines", title_justify="left", box=None, pad_edge=False)
        table.add_column("configuration")
        for name in (*spec.space, "filter rate, validation", "HR@10", "filter rate, test", "HR@10"):
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


def shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _all_failed(records: Records, ending: Ending) -> str:
    failed = records.in_state(State.FAILED)
    reason, count = frequent_reason(trial.error for trial in failed)
    text = f"every trial failed, {count} of {len(failed)} with: {reason}; "
    if ending is Ending.FAILING:
        return f"{text}the search ended early ({ending}), and --resume goes on with the trials that it has not begun"
    return f"{text}--resume does not measure a failed trial again, so start a new search once the cause is mended"


def _trial_line(spec: Spec, trial: Trial) -> str:
    values = "  ".join(f"{name} {_value(value)}" for name, value in trial.parameters.items())
    if trial.state is not State.FINISHED:
        return f"{trial.trial_id}  {trial.state}  {values}  {trial.error}"
    quality, metrics = spec.search.quality, trial.metrics
    return (
        f"{trial.trial_id}  {quality} {metrics[quality]:.4f}  filter_rate {metrics['filter_rate']:6.1%}  "
        f"{metrics['seconds']:5.1f} s  {values}"
    )


def _cells(spec: Spec, point: Point) -> list[str]:
    # A baseline's own configuration is its name; the searched parameters say nothing about most of them.
    searched = [_value(getattr(point.config, name)) if point.name.startswith("trial-") else "" for name in spec.space]
    tested = point.test.metrics() if point.test else {}
    measured = [
        f"{values['filter_rate']:.1%}|{values['hr_at_10']:.4f}" if values else "|" for values in (point.valid, tested)
    ]
    return [point.name, *searched, *(cell for pair in measured for cell in pair.split("|"))]


def _value(value: object) -> str:
    return "all" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
