"""One search from its spec to its report, step after step."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from etarec import checkpoint, data
from etarec.checkpoint import Checkpoint
from etarec.config import UserError
from etarec.data import Interactions
from etarec.disk import write_whole
from etarec.evaluate import Measurement
from etarec.train import cache_path, load_or_train, progress, train
from search.console import Console
from search.console import shown as where
from search.provenance import NUMERIC, Provenance, about_checkpoint, about_data, packages, sources
from search.records import JOURNAL, PARENT_STATES, Ending, Records, State, Trial, held
from search.report import render
from search.running import runner
from search.running.plan import WORKER_BYTES, Machine, Plan, plan, trial_bytes
from search.selection import front as selection
from search.selection.front import Selection
from search.spec import (
    Spec,
    as_dict,
    baseline_config,
    check_against_data,
    check_measured,
    check_something_to_learn,
    flat,
    rehearsal_share,
    to_yaml,
)
from search.subject import Job, Recommender, Subject, measure_on_validation
from search.track.live import Tracker

FREE_TO_CHANGE = (
    "trials",
    "concurrency",
    "cpus_per_trial",
    "gpus_per_trial",
    "cuda_mps",
    "choose",
    "bootstrap_replicates",
    "max_failures_in_a_row",
    "random_points",
    "retries",
    "trial_timeout",
)


@dataclass
class Experiment:
    """What a run of the program is about. `file` is where the spec comes from, for messages."""

    spec: Spec
    directory: Path
    address: str | None = None
    resume: bool = False
    file: Path | None = None
    accept_changes: bool = False
    console: Console = field(default_factory=Console)
    provenance: Provenance = field(default_factory=Provenance)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.provenance.seconds[step] = time.perf_counter() - begin

    @contextmanager
    def naming_file(self) -> Iterator[None]:
        """A problem with a key that shows only beside the data or the machine names the key's file, like all others."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.file}: {error}" if self.file else str(error)) from error


def prepare(experiment: Experiment) -> Recommender:
    """The data and the checkpoint; what can be wrong with them or the machine is found here, before anything starts."""
    spec = experiment.spec
    _plan(experiment, runner.machine(experiment.address))
    interactions = _load_data(experiment)
    experiment.provenance.data = about_data(spec, interactions)
    if experiment.resume:
        _check_resumed(experiment)
    with experiment.timed("train"):
        trained, path = _checkpoint(spec, interactions, experiment.console)
    experiment.console.checkpoint(trained, path)
    experiment.provenance.checkpoint = about_checkpoint(trained, path)
    cache = cache_path(interactions, spec.model, spec.train).parent
    subject = Recommender(interactions, trained, spec.data.order, spec.data.order_seed, cache)
    held_out = _held_out(experiment, interactions)
    return replace(subject, rehearsal=_rehearsal(experiment, subject, held_out)) if held_out else subject


def _held_out(experiment: Experiment, interactions: Interactions) -> Interactions | None:
    """The split of a rehearsal, if there is to be one. A log too short for `auto` goes without."""
    spec, share = experiment.spec, rehearsal_share(experiment.spec)
    if share is None:
        return None
    held_out = data.rehearsal(interactions, spec.data, share)
    if held_out.sample_counts()["train"]:
        return held_out
    if spec.data.rehearsal_share == "auto":
        return None
    with experiment.naming_file():
        raise UserError(f"data.rehearsal_share: {share} leaves no train sample, expected less, or null")


def _rehearsal(experiment: Experiment, subject: Recommender, held_out: Interactions) -> Recommender:
    """What is searched instead: less to train on, a longer stream, and a checkpoint of the same settings for it."""
    with experiment.timed("rehearsal"), progress(experiment.spec.train, experiment.console.out) as watch:
        trained, path = load_or_train(held_out, subject.checkpoint.model, subject.checkpoint.train, watch)
    experiment.console.rehearsal(held_out, trained, path)
    experiment.provenance.rehearsal = about_checkpoint(trained, path) | {"samples": held_out.sample_counts()}
    return replace(subject, data=held_out, checkpoint=trained)


def dry_run(experiment: Experiment) -> None:
    """Checks everything, times one trial and shows the plan; trains nothing, starts nothing and writes nothing."""
    spec, console = experiment.spec, experiment.console
    machine = runner.machine(experiment.address)
    _plan(experiment, machine)
    interactions = _load_data(experiment)
    held_out = _held_out(experiment, interactions)
    searched = held_out or interactions
    if held_out:
        console.to_rehearse(held_out)
    given = Path(spec.checkpoint) if spec.checkpoint and searched is interactions else None
    path = given or cache_path(searched, spec.model, spec.train)
    trained, epoch_seconds = None, None
    if given or path.exists():
        trained = _given_checkpoint(path, searched)
        console.checkpoint(trained, path)
    else:
        begin = time.perf_counter()
        trained = train(searched, spec.model, replace(spec.train, epochs=1))
        epoch_seconds = time.perf_counter() - begin
    subject = Recommender(searched, trained, spec.data.order, spec.data.order_seed).without_test()
    planned = _plan(experiment, machine, trial_bytes(subject))
    console.plan(spec, planned, experiment.directory)
    config = baseline_config(spec, "published", n_items=interactions.n_items - 1, random_rate=0, chosen=spec.adapt)
    pilot = measure_on_validation(subject, config, spec.search.seed, planned.threads_per_trial)
    served = subject.serve(config, "valid", spec.search.seed)
    console.pilot(spec, planned, pilot, served, epoch_seconds, searched)


def _plan(experiment: Experiment, machine: Machine, need: float = WORKER_BYTES) -> Plan:
    with experiment.naming_file():
        return plan(experiment.spec.search, machine, need)


def _load_data(experiment: Experiment) -> Interactions:
    spec = experiment.spec
    with experiment.timed("data"):
        interactions = data.load(spec.data)
        with experiment.naming_file():
            check_against_data(spec, interactions.n_items - 1)
            check_something_to_learn(spec, _held_out(experiment, interactions) or interactions)
            data.stream(interactions, "valid", spec.data.order, spec.data.order_seed)
    experiment.console.data(spec, interactions)
    return interactions


def _checkpoint(spec: Spec, interactions: Interactions, console: Console) -> tuple[Checkpoint, Path]:
    if spec.checkpoint is not None:
        return _given_checkpoint(Path(spec.checkpoint), interactions), Path(spec.checkpoint)
    with progress(spec.train, console.out) as watch:
        return load_or_train(interactions, spec.model, spec.train, watch)


def _given_checkpoint(path: Path, interactions: Interactions) -> Checkpoint:
    trained = checkpoint.read(path)
    trained.check_against(interactions.vocabulary, interactions.sha256, str(path))
    return trained


def run(experiment: Experiment, subject: Subject, n_items: int) -> Ending:
    """Searches, selects, measures on test and reports; `n_items` is the catalogue's size without padding.

    The finished trials of a search that was cut off are reported from validation alone: what may be resumed has not
    looked at the test split.
    """
    experiment.directory.mkdir(parents=True, exist_ok=True)
    with held(experiment.directory):
        if not experiment.resume and (experiment.directory / JOURNAL).stat().st_size:
            raise UserError(f"{experiment.directory}: another search came first; give another --out, or add --resume")
        return _run(experiment, subject, n_items)


def _run(experiment: Experiment, subject: Subject, n_items: int) -> Ending:
    spec, directory, console = experiment.spec, experiment.directory, experiment.console
    records = Records(directory)
    for change in records.begin(_identity(experiment), experiment.accept_changes):
        console.warn(f"goes on with another setting than before: {change}")
    write_whole(directory / "spec.yaml", to_yaml(spec))
    tracker = Tracker(spec.name, records, flat(as_dict(spec)), console.warn)
    try:
        with runner.cluster(spec.search, experiment.address, trial_bytes(subject), console.warn) as plan:
            runner.take_sigterm_for_ctrl_c()
            console.plan(spec, plan, directory)
            ending = _search(experiment, subject, records, plan, tracker)
            try:
                selected = _select(experiment, subject, records, plan, n_items, ending)
            except KeyboardInterrupt:
                ending, selected = (
                    Ending.INTERRUPTED,
                    selection.without_baselines(spec, records.in_state(State.FINISHED)),
                )
        records.write_table()
        _write(experiment, records, plan, selected, ending)
        render.render(directory)
    except BaseException as error:
        state = State.KILLED if isinstance(error, KeyboardInterrupt) else State.FAILED
        records.write_table()
        tracker.close(state, {}, None, None, patience=5)
        raise
    try:
        outcome = {"hypervolume": selected.hypervolume}
        tracker.close(PARENT_STATES[ending], outcome, _tested(selected), directory)
    except KeyboardInterrupt:
        console.warn(f"MLflow may not be up to date; `python -m search.track {where(directory)}` brings it there")
    records.write_table()
    console.result(spec, records, selected, directory, ending)
    return ending


def _identity(experiment: Experiment) -> dict[str, Any]:
    """What a resumed search must have in common with its beginning; how many trials run, and how, may change."""
    settings = flat(as_dict(experiment.spec))
    free = ("name", "data.path", "checkpoint", "baselines", *(f"search.{key}" for key in FREE_TO_CHANGE))
    kept = {key: value for key, value in settings.items() if not key.startswith(free)}
    sha256 = {"data": experiment.provenance.data, "checkpoint": experiment.provenance.checkpoint}
    if experiment.provenance.rehearsal:
        sha256["rehearsal checkpoint"] = experiment.provenance.rehearsal
    about_them = {f"{key} sha256": about.get("sha256") for key, about in sha256.items()}
    return {**kept, **about_them, "packages": packages(NUMERIC), "code": sources()}


def _check_resumed(experiment: Experiment) -> None:
    """What has changed ends the program before it trains a checkpoint that nobody asked for."""
    records = Records(experiment.directory)
    names = {"checkpoint sha256", "rehearsal checkpoint sha256"} & records.settings.keys()
    to_come = {name: records.settings[name] for name in names}
    records.check({**_identity(experiment), **to_come}, experiment.accept_changes)
    with experiment.naming_file():
        check_measured(experiment.spec, {trial.trial_id: trial.parameters for trial in records.trials.values()})


def _search(experiment: Experiment, subject: Subject, records: Records, plan: Plan, tracker: Tracker) -> Ending:
    spec = experiment.spec
    with experiment.timed("search"), experiment.console.trials(spec, records) as show:

        def on_change(trial: Trial) -> None:
            tracker.update()
            show(trial)

        return runner.run_search(spec, subject.without_test(), records, plan, on_change, experiment.console.warn)


def _select(
    experiment: Experiment, subject: Subject, records: Records, plan: Plan, n_items: int, ending: Ending
) -> Selection:
    spec, finished = experiment.spec, records.in_state(State.FINISHED)

    def on_validation(jobs: Sequence[Job]) -> Iterator[Measurement | None]:
        return runner.measure_all(subject.without_test(), jobs, plan, experiment.console.warn, on_test=False)

    def on_test(jobs: Sequence[Job]) -> Iterator[Measurement | None]:
        measured = runner.measure_all(subject, jobs, plan, experiment.console.warn, on_test=True)
        return experiment.console.counted("test", measured, len(jobs))

    if ending is not Ending.COMPLETE:
        return selection.without_baselines(spec, finished)
    with experiment.timed("test"):
        selected = selection.select(spec, finished, n_items, on_validation)
        return selection.remeasure(spec, selected, n_items, on_test)


def _write(experiment: Experiment, records: Records, plan: Plan, selected: Selection, ending: Ending) -> None:
    """All files but the report's, each whole or not at all."""
    spec, directory = experiment.spec, experiment.directory
    front, baselines = selection.tables(spec, selected)
    write_whole(directory / "pareto.csv", front.to_csv(index=False))
    write_whole(directory / "baselines.csv", baselines.to_csv(index=False))
    chosen = selection.chosen_document(spec, selected)
    write_whole(directory / "chosen.yaml", yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=120))
    experiment.provenance.search = _about_search(spec, records, plan, selected, ending)
    write_whole(directory / "provenance.json", json.dumps(experiment.provenance.document(), indent=2))


def _about_search(spec: Spec, records: Records, plan: Plan, selected: Selection, ending: Ending) -> dict[str, Any]:
    counts = {state.lower(): len(records.in_state(state)) for state in (State.FINISHED, State.FAILED, State.KILLED)}
    return {
        "requested": spec.search.trials,
        **counts,
        "concurrency": plan.concurrency,
        "threads_per_trial": plan.threads_per_trial,
        "sampler": spec.search.sampler,
        "attempts_repeated": sum(trial.retries for trial in records.trials.values()),
        "accepted_changes": records.accepted,
        "hypervolume": selected.hypervolume,
        "interrupted": ending in (Ending.INTERRUPTED, Ending.FAILING),
        "ending": str(ending),
    }


def _tested(selected: Selection) -> dict[str, dict[str, float]]:
    return {point.name: point.test.metrics() if point.test else {} for point in selected.front}
