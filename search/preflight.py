"""Checks before hours of work: each place that a search writes to is written to, and its store is opened."""

from etarec.experiment_file import check_folder
from etarec.train import cache_folder
from search.experiment import Experiment
from search.records.journal import held
from search.running.scratch import check_scratch
from search.track.check import check_store

FILES, FILES_BYTES, BYTES_PER_TRIAL = 20, 2**24, 2**13  # of the output folder: docs/reliability.md


def check(experiment: Experiment) -> None:
    """Raise UserError for what would end the search later. A dry run and a search make the same checks.

    `search.trials` is settled by then. A search goes on without a store that does not answer, after a warning.
    """
    trials = experiment.spec.search.budget
    check_folder(experiment.directory, "--out", FILES_BYTES + trials * BYTES_PER_TRIAL, FILES)
    cache_folder()
    check_scratch()
    if experiment.resume:
        with held(experiment.directory):
            pass
    away = check_store(experiment.spec.name, trials)
    if away:
        experiment.console.warn(f"MLflow cannot be reached ({away}); the search goes on without it and keeps trying")
