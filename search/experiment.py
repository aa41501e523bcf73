"""One search, from its first trial to its report."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from etarec.command_line import noting, short_path
from etarec.config import UserError
from etarec.disk import write_whole
from etarec.evaluate import Measurement
from etarec.progress import Phase
from search import warm_start
from search.console import Console
from search.records import csv_text
from search.records.journal import JOURNAL, held
from search.records.provenance import Provenance, settings
from search.records.records import Records
from search.records.states import PARENT_STATES, Ending, State
from search.records.trial import Trial
from search.report import render
from search.report.answer import Answer
from search.report.files import load
from search.running import learning, runner
from search.running.known import expected_gain
from search.running.last_words import last_words
from search.running.plan import Plan, trial_bytes
from search.selection import anchors, documents, stream
from search.selection import front as selection
from search.selection.front import Selection
from search.selection.paired import users_text
from search.spec import Spec, as_dict, class_paths, flat, to_yaml
from search.subject import Job, Subject, job_of
from search.track.live import Tracker, track_command
from search.warm_start import Folders


@dataclass
class Experiment:
    """A search as the user requested it. `file` is where the spec was read, for messages."""

    spec: Spec
    directory: Path
    address: str | None = None
    resume: bool = False
    file: Path | None = None
    accept_changes: bool = False
    earlier: Folders = field(default_factory=Folders)
    console: Console = field(default_factory=Console)
    provenance: Provenance = field(default_factory=Provenance)


def run(experiment: Experiment, subject: Subject, n_items: int) -> Ending:
    """Search, select, measure on test and write the report. `n_items` is the catalogue's size without padding.

    A search that was cut off is reported from validation alone, so that a resumed one selects without knowing test.

    Raises UserError where another process is at work in the folder, or has begun a search there meanwhile.
    """
    experiment.directory.mkdir(parents=True, exist_ok=True)
    folder = short_path(experiment.directory)
    died = f"the search in {folder} ended without a word: killed, or one of Ray's processes died; --resume goes on"
    with held(experiment.directory), last_words(f"error: {died}"):
        if not experiment.resume and (experiment.directory / JOURNAL).stat().st_size:
            raise UserError(f"{experiment.directory}: another search came first; give another --out, or add --resume")
        with noting(f"{folder} keeps the trials so far; the same command with --resume goes on"):
            return _Search(experiment, subject, n_items).run()


class _Search:
    """A search whose folder this process holds."""

    def __init__(self, experiment: Experiment, subject: Subject, n_items: int):
        self.experiment, self.subject, self.n_items = experiment, subject, n_items
        self.spec, self.directory, self.console = experiment.spec, experiment.directory, experiment.console
        self.records = Records(self.directory)

    def run(self) -> Ending:
        for change in self._begin():
            self.console.warn(f"the search goes on with a changed setting: {change}")
        write_whole(self.directory / "spec.yaml", to_yaml(self.spec))
        tracker = Tracker(self.spec.name, self.records, flat(as_dict(self.spec)), self.console.warn)
        with self._closing_on_errors(tracker):
            ending, selected = self._measured(tracker)
            with self.console.phase("report"):
                answer = self._advised()
        with self.console.phase("MLflow"):
            self._close(tracker, ending, selected, answer)
        self.console.result(self.spec, self.records, answer, self.directory, ending)
        return ending

    def _begin(self) -> list[str]:
        """Begin in the journal, or go on there; the changed settings that the user accepted."""
        begun, now = self.experiment, settings(self.spec, self.experiment.provenance)
        start = None if self.records.identity else warm_start.start(self.spec, now, begun.earlier)
        return self.records.begin(now, begun.accept_changes, start)

    @contextmanager
    def _closing_on_errors(self, tracker: Tracker) -> Iterator[None]:
        """End the search in its files and in MLflow as KILLED or FAILED if the block raises."""
        try:
            yield
        except BaseException as error:
            state = State.KILLED if isinstance(error, KeyboardInterrupt) else State.FAILED
            self.records.write_table()
            tracker.close(state, {}, None, None, patience=5)
            raise

    def _measured(self, tracker: Tracker) -> tuple[Ending, Selection]:
        """Make all measurements and write all files about them."""
        spec, need = self.spec, trial_bytes(self.subject)
        with ExitStack() as stack:
            with self.console.phase("Ray"):
                cluster = runner.cluster(
                    spec.search, self.experiment.address, need, self.console.warn, class_paths(spec)
                )
                plan = stack.enter_context(cluster)
            runner.take_endings_for_ctrl_c()
            taken = len(self.records.taken)
            plan = replace(plan, learning=learning.sentence(spec.search, plan.concurrency, taken)) if taken else plan
            self.console.plan(spec, plan, self.directory, self.records.sources)
            ending = self._search(plan, tracker)
            try:
                selected = self._select(plan, ending)
            except KeyboardInterrupt:
                ending, selected = Ending.INTERRUPTED, self._selected_on_validation()
        self.records.write_table()
        with self.console.phase("intervals"):
            self._write(plan, selected, ending)
        return ending, selected

    def _measure_anchors(self, plan: Plan) -> None:
        """Measure the fixed configurations that the journal does not hold yet."""
        configs = anchors.configs(self.spec, self.n_items)
        missing = {name: config for name, config in configs.items() if name not in self.records.anchors}
        if not missing:
            return
        jobs = [job_of(self.spec, config) for config in missing.values()]
        with self.experiment.provenance.timed("anchors"), self.console.measuring("baselines", "validation") as phase:
            phase.advance(0, "caching what all trials share")
            measured = self._on_validation(plan, phase, jobs)
            for (name, config), one in zip(missing.items(), measured, strict=True):
                if one is not None and not self.records.users:
                    self.records.streaming(users_text(one.users))
                self.records.anchored(anchors.anchor(name, config, one))

    def _on_validation(self, plan: Plan, phase: Phase, jobs: Sequence[Job]) -> Iterator[Measurement | None]:
        phase.expect(len(jobs))
        return self._each(plan, phase, jobs, on_test=False)

    def _on_test(self, plan: Plan, phase: Phase, jobs: Sequence[Job]) -> Iterator[Measurement | None]:
        return self._each(plan, phase, jobs, on_test=True)

    def _each(self, plan: Plan, phase: Phase, jobs: Sequence[Job], *, on_test: bool) -> Iterator[Measurement | None]:
        """The measurements of the jobs, which advance the phase as they come."""
        subject = self.subject if on_test else self.subject.without_test()
        return runner.measure_all(subject, jobs, plan, self.console.warn, on_test=on_test, done=phase.advance)

    def _search(self, plan: Plan, tracker: Tracker) -> Ending:
        try:
            self._measure_anchors(plan)
        except KeyboardInterrupt:
            return Ending.INTERRUPTED
        searched, warn = self.subject.without_test(), self.console.warn
        with self.experiment.provenance.timed("search"), self.console.trials(self.spec, self.records) as show:

            def on_change(trial: Trial) -> None:
                tracker.update()
                show(trial)

            return runner.run_search(self.spec, searched, self.records, plan, on_change, warn)

    def _select(self, plan: Plan, ending: Ending) -> Selection:
        if not ending.whole:
            return self._selected_on_validation()
        with self.experiment.provenance.timed("test"):
            with self.console.measuring("baselines", "validation") as phase:
                on_validation = partial(self._on_validation, plan, phase)
                users = self.records.users
                finished, known = self.records.in_state(State.FINISHED), list(self.records.anchors.values())
                selected = selection.select(self.spec, finished, self.n_items, on_validation, known, users)
            rows = len(selected.retested) + len(selected.baselines)
            with self.console.measuring("test", "test", rows) as phase:
                return selection.remeasure(self.spec, selected, partial(self._on_test, plan, phase))

    def _selected_on_validation(self) -> Selection:
        known = list(self.records.anchors.values())
        finished = self.records.in_state(State.FINISHED)
        return selection.without_baselines(self.spec, finished, known, self.records.users)

    def _write(self, plan: Plan, selected: Selection, ending: Ending) -> None:
        """Write all files except trials.csv and the report."""
        front, baselines = documents.tables(self.spec, selected)
        chosen = documents.chosen_document(self.spec, selected)
        provenance = self.experiment.provenance
        provenance.search = _about_search(self.spec, self.records, plan, selected, ending)
        texts = {
            "pareto.csv": csv_text.of_frame(front),
            "baselines.csv": csv_text.of_frame(baselines),
            "stream.csv": csv_text.of_frame(stream.along(selected, self.spec.search.quality)),
            "chosen.yaml": _yaml(chosen),
            "provenance.json": json.dumps(provenance.document(), indent=2),
        }
        for name, text in texts.items():
            write_whole(self.directory / name, text)

    def _advised(self) -> Answer:
        """The answer by the files, from which the report is rendered; chosen.yaml begins with the verdict."""
        answer, path = Answer(load(self.directory)), self.directory / "chosen.yaml"
        write_whole(path, _yaml(_document(answer) | yaml.safe_load(path.read_text(encoding="utf-8"))))
        render.render(self.directory)
        return answer

    def _close(self, tracker: Tracker, ending: Ending, selected: Selection, answer: Answer) -> None:
        """Bring MLflow up to date, and the run ids in trials.csv with it."""
        tested = {point.name: point.test.metrics() if point.test else {} for point in selected.front}
        try:
            areas = _known(selection.areas(selected))
            tracker.close(PARENT_STATES[ending], areas, tested, self.directory, chosen=_document(answer))
        except KeyboardInterrupt:
            self.console.warn(f"MLflow may lack a part of the search; `{track_command(self.directory)}` copies it")
        self.records.write_table()


def _document(answer: Answer) -> dict[str, Any]:
    """chosen.yaml with the verdict."""
    return {"verdict": str(answer.advice.verdict), "advice": str(answer.advice), **answer.run.chosen}


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _about_search(spec: Spec, records: Records, plan: Plan, selected: Selection, ending: Ending) -> dict[str, Any]:
    counts = {state.lower(): len(records.in_state(state)) for state in State if state is not State.RUNNING}
    return {
        "requested": spec.search.budget,
        "earlier": [str(source) for source in records.sources],
        **counts,
        "concurrency": plan.concurrency,
        "threads_per_trial": plan.threads_per_trial,
        "sampler": spec.search.sampler,
        "attempts_repeated": sum(trial.retries for trial in records.trials.values()),
        "accepted_changes": records.accepted,
        **selection.areas(selected),
        "expected_gain": expected_gain(spec, records),
        "anchors": {name: anchor.metrics for name, anchor in records.anchors.items()},
        "interrupted": ending in (Ending.INTERRUPTED, Ending.FAILING),
        "ending": str(ending),
    }
