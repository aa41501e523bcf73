"""The output of a search: text for people, or with `--json` one JSON object a line for programs.

docs/output.md lists the objects.
"""

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from rich.console import Console as Terminal

from etarec.checkpoint import Checkpoint
from etarec.command_line import short_path
from etarec.data import Interactions, rehearsal_text
from etarec.evaluate import Measurement
from etarec.kernels import build
from etarec.metrics import EARLY_STOPPING, labelled
from etarec.progress import Phase, Phases
from search import numbers
from search.lines import WIDTH, all_failed, best_so_far, counted, result_table, trial_lines
from search.records.records import Records
from search.records.start import Source
from search.records.states import ENDED, Ending, State
from search.records.trial import Trial
from search.redact import shown_uri
from search.report.answer import Answer
from search.report.health import problems
from search.running.plan import Plan
from search.spec import Spec

Output = Literal["text", "quiet", "json"]

LABEL_WIDTH = 12  # columns
LOG_WIDTH = 140  # of tables in a log file, which has no edge to break them at
RAY_START = 15  # seconds, about
EXPECTED_FRONT = 12  # points, a usual size; the front is not known before the search


def at_least_wide(out: Terminal) -> Terminal:
    """A terminal for tables: `out`, or one of WIDTH columns in its place, whose lines a narrower one wraps."""
    if out.width >= WIDTH:
        return out
    return Terminal(file=out.file, width=WIDTH, quiet=out.quiet, highlight=False, force_terminal=out.is_terminal)


class Console(Phases):
    """All output goes through here; nothing else prints. Lines fit 80 columns where paths and numbers let them.

    output: `quiet` leaves warnings and the verdict, `json` prints events.
    """

    def __init__(self, output: Output = "text") -> None:
        silent = output != "text"
        interactive = False if silent else None  # None: as rich finds it
        # In a notebook, plain lines.
        super().__init__(
            Terminal(highlight=False, soft_wrap=True, quiet=silent, force_terminal=interactive, force_jupyter=False)
        )
        self.output = output
        self._planned: Plan | None = None
        if not self.out.is_terminal:
            self.out.width = max(self.out.width, LOG_WIDTH)

    def event(self, name: str, **values: object) -> None:
        """Print a JSON object, if that is the output."""
        if self.output == "json":
            print(json.dumps({"event": name, **values}, ensure_ascii=False), flush=True)

    def tell(self, phase: Phase) -> None:
        super().tell(phase)
        self.step(phase)

    def step(self, phase: Phase) -> None:
        seconds = round(phase.stopwatch.seconds, 3)
        self.event("progress", phase=phase.name, done=phase.done, total=phase.total, seconds=seconds, **phase.facts)

    def entry(self, label: str, *lines: str) -> None:
        """Print a label, such as `report`, and lines below each other to its right."""
        for place, text in enumerate(lines):
            self.line(f"{label if place == 0 else '':{LABEL_WIDTH}}{text}")

    def prose(self, label: str, text: str) -> None:
        """Print a label and a sentence to its right, broken into lines of 80 columns."""
        self.entry(label, *textwrap.wrap(text, WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False))

    def warn(self, text: str) -> None:
        if self.output == "quiet":
            print(f"warning: {text}", file=sys.stderr)
        self.event("warning", text=text)
        self.out.print(f"warning: {text}", style="yellow", markup=False)

    def error(self, text: str) -> None:
        """Print a message on standard error; the program then ends with an exit status other than 0."""
        self.event("error", text=text)
        print(f"error: {text}", file=sys.stderr)

    def data(self, spec: Spec, data: Interactions) -> None:
        source = spec.data.path or f"embedded data '{spec.data.dataset}'"
        samples = ", ".join(f"{count:,} {split}" for split, count in data.sample_counts().items())
        counts = f"{source}: {data.n_users:,} users, {data.n_items - 1:,} items"
        size = {"users": data.n_users, "items": data.n_items - 1, "samples": data.sample_counts()}
        self.event("data", source=source, **size, reading=list(data.reading.summary()))
        self.entry("data", counts, f"samples: {samples}", *data.reading.summary())
        for doubt in data.reading.doubts:
            self.warn(doubt)

    def checkpoint(self, spec: Spec, checkpoint: Checkpoint, path: Path) -> None:
        metrics = dict.fromkeys((spec.search.quality, EARLY_STOPPING))
        valid = labelled(checkpoint.valid, metrics)
        self.event("checkpoint", path=str(path), epochs=checkpoint.epochs, valid=checkpoint.valid)
        self.entry("checkpoint", f"{short_path(path)}: epoch {checkpoint.epochs}", f"validation {valid}")

    def rehearsal(self, spec: Spec, held_out: Interactions, checkpoint: Checkpoint, path: Path) -> None:
        valid = labelled(checkpoint.valid, [spec.search.quality])
        self.event("rehearsal", path=str(path), samples=held_out.sample_counts(), valid=checkpoint.valid)
        self.entry("rehearsal", f"{short_path(path)}: epoch {checkpoint.epochs}", f"the trials' samples: {valid}")

    def to_rehearse(self, held_out: Interactions) -> None:
        """Print why a second checkpoint is trained."""
        where = rehearsal_text(held_out.sample_counts(), "a second checkpoint")
        self.prose("rehearsal", f"trials {where}")

    def plan(self, spec: Spec, plan: Plan, directory: Path, earlier: Sequence[Source] = ()) -> None:
        """Print the plan of a search. Said again, it is printed only where other resources were found since.

        earlier: the searches from which this one starts.
        """
        before, self._planned = self._planned, plan
        if before is None:
            self._search(spec, directory)
        if earlier:
            self.event("earlier", sources=[asdict(one) for one in earlier])
            self.entry("earlier", *(str(replace(one, folder=short_path(Path(one.folder)))) for one in earlier))
        if before is None or before.resources_each != plan.resources_each:
            self._resources(plan)

    def _search(self, spec: Spec, directory: Path) -> None:
        search, space = spec.search, {name: str(dimension) for name, dimension in spec.space.items()}
        self.event("search", trials=search.budget, sampler=search.sampler, directory=str(directory), space=space)
        self.entry("search", f"{search.budget} trials, sampler {search.sampler}; files in {short_path(directory)}")
        self.entry("searched", *(f"{name} ({numbers.short_name(name)}) {text}" for name, text in space.items()))

    def _resources(self, plan: Plan) -> None:
        each = {"threads_per_trial": plan.threads_per_trial, **plan.resources}
        self.event("resources", concurrency=plan.concurrency, **each, text=str(plan), note=plan.note)
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
        store = shown_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
        each = {"epoch": epoch_seconds, "trial": seconds, "configuration_on_test": test_seconds}
        self.event("expected", seconds=each | {"search": search, "test": test}, configurations=front, mlflow=store)
        minutes = f"{search / 60:.1f} min of search, {test / 60:.1f} min of test"
        self.entry("expected", f"{minutes} (about {front} configurations)")
        self.entry("MLflow", f"experiment '{spec.name}' in {store}")
        self.line("nothing was started or written (--dry-run)")

    @contextmanager
    def trials(self, spec: Spec, records: Records) -> Iterator[Callable[[Trial], None]]:
        """Yield a function that prints a trial when it has ended, above the progress of the search."""
        taken = len(records.taken)
        with self.phase("search", spec.search.budget) as phase:

            def update() -> None:
                note, facts = best_so_far(spec, records)
                ended = len(records.in_state(*ENDED)) - taken
                phase.advance(ended, note or "starting workers", **facts)

            def show(trial: Trial) -> None:
                if trial.state is State.RUNNING:
                    return
                for text in trial_lines(spec, trial):
                    self.line(text)
                about = {"parameters": trial.parameters, "metrics": trial.metrics, "error": trial.error}
                self.event("trial", trial_id=trial.trial_id, state=str(trial.state), **about)
                update()

            update()
            yield show

    @contextmanager
    def measuring(self, what: str, split: str, total: int | None = None) -> Iterator[Phase]:
        """Yield the phase of measurements on `split`, each of which advances it, and print their number at its end."""
        with self.phase(what, total) as phase:
            yield phase
        if phase.done:
            seconds = f"{phase.stopwatch.seconds:.0f} s"
            self.line(f"  {counted(phase.done, 'configuration')} measured on {split} in {seconds}")

    def result(self, spec: Spec, records: Records, answer: Answer, directory: Path, ending: Ending) -> None:
        """Print the end of a search: the table, then the verdict, which stays in view above the prompt."""
        counts = {str(s): len(records.in_state(s)) for s in (*ENDED, State.KILLED)}
        of_earlier = f", {len(records.taken)} of them in earlier searches" if records.taken else ""
        ended = ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count)
        self.entry("trials", ended + of_earlier)
        if answer.front:
            at_least_wide(self.out).print(result_table(answer))
            self._footnotes(answer)
        self.out.quiet = self.output == "json"  # the verdict is what --quiet leaves
        self._verdict(answer)
        if ending is not Ending.INTERRUPTED and not records.in_state(State.FINISHED, State.PRUNED):
            self.error(all_failed(records, ending))
        elif not ending.whole:
            self.warn(f"the search ended early ({ending}), so nothing is reported from test; --resume continues it")
        elif ending is not Ending.COMPLETE:
            own = len(records.trials) - len(records.taken)
            self.entry("", f"the search stopped after {own} of {counted(spec.search.budget, 'trial')}: {ending}")
        elif len(records.trials) - len(records.taken) < spec.search.budget:
            self.warn(f"the space holds only {counted(len(records.trials), 'configuration')}; all were measured")
        self.entry("report", short_path(directory / "report.html"))
        if answer.next_is_known:
            self.prose("next", f"{answer.purpose()}:")
            self.entry("", *answer.command(Path(short_path(directory))).splitlines())
        self.event("result", **_result(answer, directory, ending, counts))

    def _verdict(self, answer: Answer) -> None:
        self.prose("verdict", answer.advice.title)
        for reason in answer.advice.reasons:
            self.prose("", reason)
        marks = {"good": "+", "bad": "-", "note": "o"}
        self.entry("findings", *(f"{marks[finding.tone]} {finding.title}" for finding in answer.findings))
        for place, problem in enumerate(problems(answer)):
            self.prose("" if place else "checks", f"! {problem.title} {problem.advice}")

    def _footnotes(self, answer: Answer) -> None:
        self.entry("", "* the chosen configuration")
        tested = answer.view.split == "test"
        if tested and not all(map(answer.view.measured, answer.front)):
            self.entry("", "empty on test: validation cannot tell the point from another one")
        if along := answer.along_front:
            spread = numbers.spread(answer.view.skipped(row) for row in along)
            self.entry("", f"random skipping at {counted(len(along), 'more rate')}, {spread}, is in the report")


def _seconds_each(pilot: Measurement, served: Measurement, data: Interactions) -> tuple[float, float]:
    """Seconds of one trial, and of one configuration on test."""
    samples = data.sample_counts()
    return pilot.seconds["seconds"], served.seconds["seconds"] * samples["test"] / samples["valid"]


def _result(answer: Answer, directory: Path, ending: Ending, trials: dict[str, int]) -> dict[str, object]:
    """The values of the last event."""
    advice, chosen = answer.advice, answer.run.chosen
    return {
        "ending": str(ending),
        "trials": trials,
        "verdict": str(advice.verdict),
        "advice": [advice.title, *advice.reasons],
        "findings": [{"tone": finding.tone, "title": finding.title} for finding in answer.findings],
        "checks": [{"title": problem.title, "advice": problem.advice} for problem in problems(answer)],
        "chosen": chosen.get("trial_id"),
        "set": chosen.get("set") or [],
        "report": str(directory / "report.html"),
        "next": answer.command(directory) if answer.next_is_known else None,
    }
