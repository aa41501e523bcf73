"""The data and the checkpoint of a search. A mistake in them, or too small a machine, ends the program here."""

from dataclasses import replace
from pathlib import Path

from etarec import checkpoint, data
from etarec.checkpoint import Checkpoint
from etarec.command_line import naming
from etarec.data import Interactions
from etarec.disk import file_sha256
from etarec.document import read_yaml
from etarec.metrics import label
from etarec.models import class_of
from etarec.train import cache_path, load_or_train, progress
from search import preflight, rehearsal, warm_start
from search.experiment import Experiment
from search.numbers import score
from search.records.provenance import about_checkpoint, about_data, popularity, settings
from search.records.records import Records
from search.records.start import Start
from search.running import runner
from search.running.learning import default_trials
from search.running.plan import WORKER_BYTES, Machine, Plan, plan
from search.spec import (
    Spec,
    check_against_data,
    check_measured,
    check_shallow_steps,
    check_something_to_learn,
    class_paths,
    own_code,
)
from search.subject import Recommender

BETTER = 1.1  # times the quality of a ranking by popularity, which a model that has learned exceeds


def prepare(experiment: Experiment) -> Recommender:
    """The subject of the search, trained where no checkpoint is given or cached.

    Raises UserError, before anything is trained, where spec, data and machine do not fit each other.
    """
    planned = plan_on(experiment, runner.machine(experiment.address, class_paths(experiment.spec)))
    spec = experiment.spec
    preflight.check(experiment)
    interactions, held_out = load_data(experiment)
    experiment.console.plan(spec, planned, experiment.directory)
    if not experiment.resume:
        check_earlier(experiment)
    trained = _checkpoint(experiment, interactions)
    cache = cache_path(interactions, spec.model, spec.train).parent
    subject = Recommender(interactions, trained, spec.data.order, spec.data.order_seed, cache)
    return replace(subject, rehearsal=_rehearsal(experiment, subject, held_out)) if held_out else subject


def plan_on(experiment: Experiment, machine: Machine, need: float = WORKER_BYTES) -> Plan:
    """How many trials run at once; `need` is the memory of one, in bytes. Settles `search.trials: auto`."""
    with naming(experiment.file):
        if experiment.spec.search.trials == "auto":
            at_once = plan(experiment.spec.search, machine, need).concurrency
            experiment.spec = _settled(experiment, at_once)
        return plan(experiment.spec.search, machine, need)


def _settled(experiment: Experiment, concurrency: int) -> Spec:
    """The spec with a number of trials: that of the search which is resumed, or the default of the sampler."""
    spec, begun = experiment.spec, experiment.directory / "spec.yaml"
    trials = default_trials(spec.search.sampler, len(spec.space), concurrency)
    if experiment.resume and begun.exists():
        trials = read_yaml(begun)["search"]["trials"]
    return replace(spec, search=replace(spec.search, trials=trials))


def load_data(experiment: Experiment) -> tuple[Interactions, Interactions | None]:
    """The data, and their split for a rehearsal if there is to be one.

    Raises UserError where spec and data do not fit each other, or do not fit the search that is resumed.
    """
    spec = experiment.spec
    with experiment.provenance.timed("data"), experiment.console.phase("loading"):
        interactions = data.load(spec.data)
        with naming(experiment.file):
            check_against_data(spec, interactions.n_items - 1)
            held_out = rehearsal.held_out(spec, interactions)
            check_something_to_learn(spec, held_out or interactions)
            if spec.checkpoint is None:
                check_shallow_steps(spec, class_of(spec.model))
            data.stream(interactions, "valid", spec.data.order, spec.data.order_seed)
    experiment.console.data(spec, interactions)
    experiment.provenance.data = about_data(spec, interactions)
    experiment.provenance.own_code = own_code.sources(spec)
    if experiment.resume:
        _check_resumed(experiment, interactions, held_out)
    return interactions, held_out


def given_checkpoint(path: Path, interactions: Interactions, spec: Spec) -> Checkpoint:
    """The checkpoint in the file, which must have been trained on these data and fit the spec."""
    trained = checkpoint.read(path)
    trained.check_against(interactions.vocabulary, interactions.sha256, str(path))
    check_shallow_steps(spec, class_of(trained.model))
    return trained


def _checkpoint(experiment: Experiment, interactions: Interactions) -> Checkpoint:
    spec, console = experiment.spec, experiment.console
    with experiment.provenance.timed("train"):
        if spec.checkpoint is not None:
            path = Path(spec.checkpoint)
            trained = given_checkpoint(path, interactions, spec)
        else:
            with progress(spec.train, console) as watch:
                trained, path = load_or_train(interactions, spec.model, spec.train, watch)
    console.checkpoint(spec, trained, path)
    _compare_with_popularity(experiment, trained, experiment.provenance.data["popularity"])
    experiment.provenance.checkpoint = about_checkpoint(trained, path)
    return trained


def _rehearsal(experiment: Experiment, subject: Recommender, held_out: Interactions) -> Recommender:
    experiment.console.to_rehearse(held_out)
    with experiment.provenance.timed("rehearsal"):
        searched, path = rehearsal.rehearsing(subject, held_out, experiment.console)
    experiment.console.rehearsal(experiment.spec, held_out, searched.checkpoint, path)
    _compare_with_popularity(experiment, searched.checkpoint, popularity(held_out))
    about = about_checkpoint(searched.checkpoint, path)
    experiment.provenance.rehearsal = about | {"samples": held_out.sample_counts()}
    return searched


def _compare_with_popularity(experiment: Experiment, trained: Checkpoint, popular: dict[str, float]) -> None:
    """Warn of a model from which a search can learn nothing, before it begins."""
    metric = experiment.spec.search.quality
    if trained.valid[metric] <= BETTER * popular[metric]:
        experiment.console.warn(
            f"the model of epoch {trained.epochs} is hardly better than recommending the most popular items to "
            f"everybody: {label(metric)} {score(trained.valid[metric])} and {score(popular[metric])}; train it longer "
            "(train.patience) or with another train.learning_rate"
        )


def check_earlier(experiment: Experiment) -> Start:
    """The earlier searches' part in this one, as far as it is known before training. Raises UserError as `start`."""
    now = settings(experiment.spec, experiment.provenance)
    return warm_start.start(experiment.spec, now, experiment.earlier, warm_start.TRAINED)


def _check_resumed(experiment: Experiment, interactions: Interactions, held_out: Interactions | None) -> None:
    """Raise UserError for a change that the user has not accepted, before a checkpoint is trained with it."""
    records = Records(experiment.directory)
    files = _checkpoint_files(experiment.spec, interactions, held_out)
    # A checkpoint that is still to be trained is compared when the search begins.
    before = {name: records.settings[name] for name in warm_start.TRAINED if name in records.settings}
    there = {name: file_sha256(file) for name, file in files.items() if name in before and file.is_file()}
    now = settings(experiment.spec, experiment.provenance)
    experiment.earlier.check_resumed(records)
    records.check({**now, **before, **there}, experiment.accept_changes)
    with naming(experiment.file):
        check_measured(experiment.spec, {trial.trial_id: trial.parameters for trial in records.trials.values()})


def _checkpoint_files(spec: Spec, interactions: Interactions, held_out: Interactions | None) -> dict[str, Path]:
    """The files of the checkpoints that are known before one is read, by the names of their digests in the settings."""
    if spec.checkpoint is not None:
        return dict(zip(warm_start.TRAINED, [Path(spec.checkpoint)], strict=False))
    files = [cache_path(interactions, spec.model, spec.train)]
    files += [cache_path(held_out, spec.model, spec.train, rehearsal=True)] if held_out else []
    return dict(zip(warm_start.TRAINED, files, strict=False))
