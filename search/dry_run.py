"""`--dry-run`: check everything, time one trial and print the plan; nothing is started or written."""

from dataclasses import replace
from pathlib import Path

from etarec.checkpoint import Checkpoint
from etarec.data import Interactions
from etarec.train import cache_path, check_cache, train
from search import preflight
from search.baselines import PUBLISHED, baseline_config
from search.experiment import Experiment
from search.prepare import check_earlier, given_checkpoint, load_data, plan_on
from search.running import runner
from search.running.plan import trial_bytes
from search.spec import class_paths
from search.subject import Recommender, measure_on_validation


def dry_run(experiment: Experiment) -> None:
    """Print the plan. Without a checkpoint one epoch is trained, to time it and to have a model for the trial."""
    console = experiment.console
    machine = runner.machine(experiment.address, class_paths(experiment.spec))
    plan_on(experiment, machine)
    spec = experiment.spec
    preflight.check(experiment)
    interactions, held_out = load_data(experiment)
    earlier = check_earlier(experiment).sources if not experiment.resume else ()
    searched = held_out or interactions
    if held_out:
        console.to_rehearse(held_out)
    trained = _checkpoint(experiment, searched, rehearses=held_out is not None)
    subject = Recommender(searched, trained, spec.data.order, spec.data.order_seed).without_test()
    planned = plan_on(experiment, machine, trial_bytes(subject))
    console.plan(spec, planned, experiment.directory, earlier)
    config = baseline_config(PUBLISHED, spec.adapt, n_items=interactions.n_items - 1)
    with console.phase("pilot"):
        pilot = measure_on_validation(subject, config, spec.search.seed, planned.threads_per_trial)
        served = subject.serve(config, "valid", spec.search.seed)
    console.pilot(spec, planned, pilot, served, experiment.provenance.seconds.get("epoch"), searched)


def _checkpoint(experiment: Experiment, searched: Interactions, *, rehearses: bool) -> Checkpoint:
    """The given or cached checkpoint, or the model after one epoch, timed as the step `epoch`."""
    spec = experiment.spec
    given = None if rehearses else spec.checkpoint
    path = Path(given) if given else cache_path(searched, spec.model, spec.train, rehearsal=rehearses)
    if given or path.exists():
        trained = given_checkpoint(path, searched, spec)
        experiment.console.checkpoint(spec, trained, path)
        return trained
    check_cache(path, searched, spec.model)
    with experiment.provenance.timed("epoch"), experiment.console.phase("one epoch"):
        return train(searched, spec.model, replace(spec.train, epochs=1))
