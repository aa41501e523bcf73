"""Runs the trials of a search in parallel on Ray Tune.

A trial's path: `JournalSearcher.suggest` -> Ray Tune gives the trial to a `TrialWorker` -> one step of the worker
measures it -> `Recorder` writes its end to the records -> the searcher tells the study. Ray's own experiment files are
scratch and are never read again.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.tune

from search.records.records import Records
from search.records.states import Ending, State
from search.records.trial import Trial
from search.running import ray_internals
from search.running.cluster import cluster, machine
from search.running.measuring import measure_all
from search.running.pacing import IdleWorkersScheduler, Pacing, tolerant_actor_manager
from search.running.plan import Plan
from search.running.recorder import Recorder
from search.running.scratch import scratch
from search.running.searcher import JournalSearcher
from search.running.signals import signals_as_before, take_endings_for_ctrl_c
from search.running.worker import TrialWorker
from search.spec import Spec
from search.subject import Subject, serving_of

__all__ = ["cluster", "machine", "measure_all", "run_search", "take_endings_for_ctrl_c"]


def run_search(
    spec: Spec,
    subject: Subject,
    records: Records,
    plan: Plan,
    on_change: Callable[[Trial], Any],
    warn: Callable[[str], Any] = lambda text: None,
) -> Ending:
    """Measures `spec.search.budget` configurations, without those whose end is in the records.

    A space with fewer configurations is measured completely. A trial whose process or node died is repeated, at most
    `spec.search.retries` times. Ctrl-C leaves running trials KILLED.
    """
    searcher = JournalSearcher(spec, records, plan, on_change)
    try:
        with scratch(warn) as folder, signals_as_before(), tolerant_actor_manager():
            _tuner(spec, subject, plan, searcher, Recorder(records, searcher, warn), folder).fit()
    finally:  # a second Ctrl-C, or an error inside Ray, comes out of `fit` itself
        for running in records.in_state(State.RUNNING):
            records.ended(running.number, State.KILLED, "the search was interrupted")
            on_change(records.trials[running.number])
    return searcher.ending


def _tuner(
    spec: Spec, subject: Subject, plan: Plan, searcher: JournalSearcher, recorder: Recorder, folder: Path
) -> ray.tune.Tuner:
    os.environ[ray_internals.MOST_STARTING] = str(plan.concurrency)  # all workers start at once
    threads = plan.threads_per_trial
    worker = ray.tune.with_parameters(
        TrialWorker,
        subject=subject,
        threads=threads,
        qualities=spec.search.qualities,
        prune=spec.search.prune,
        serving=serving_of(spec),
    )
    scheduler = IdleWorkersScheduler(searcher)
    return ray.tune.Tuner(
        ray.tune.with_resources(worker, plan.resources),
        tune_config=ray.tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=spec.search.budget * (1 + spec.search.retries),
            reuse_actors=True,
        ),
        run_config=ray.tune.RunConfig(
            name="search",
            storage_path=str(folder),
            verbose=0,
            callbacks=[Pacing(scheduler, plan.concurrency), recorder],
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
