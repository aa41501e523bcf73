"""Runs trials in parallel: with `cluster`, `feed` and `slot`, its parts, the only file that knows Ray.

A trial's way: `Feed.suggest` -> Ray Tune gives it to a worker, a `Slot` -> one step of it measures -> `Recorder`
writes the end to the records -> the feed may tell the study. Ray's own experiment files are scratch and never read
again.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.tune
from ray.exceptions import RayError

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search import retest
from search import subject as trial
from search.records import Ending, Records, State, Trial
from search.running import worker as slot
from search.running.cluster import cluster, machine, several_gpus
from search.running.plan import Plan
from search.running.scratch import scratch
from search.running.searcher import Feed, InOrder, Recorder
from search.spec import Spec

__all__ = ["cluster", "machine", "measure_all", "run_search", "take_sigterm_for_ctrl_c"]

RETRIES = 3  # of a measurement after the search


def run_search(
    spec: Spec,
    subject: trial.Subject,
    records: Records,
    plan: Plan,
    on_change: Callable[[Trial], Any],
    warn: Callable[[str], Any] = lambda text: None,
) -> Ending:
    """Measures `spec.search.trials` configurations; those that the records hold already are not measured again.

    A space with fewer configurations than that is complete with all of them. A trial whose process or node died is
    tried again, `spec.search.retries` times at most. What runs when Ctrl-C comes is KILLED.
    """
    feed = Feed(spec, records, plan, on_change)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.concurrency)  # all workers start at once
    worker = ray.tune.with_parameters(slot.Slot, subject=subject, threads=plan.threads_per_trial)
    try:
        with scratch(warn) as folder, _signals_as_before():
            ray.tune.Tuner(
                ray.tune.with_resources(worker, plan.resources),
                tune_config=ray.tune.TuneConfig(
                    search_alg=feed,
                    scheduler=InOrder(),
                    num_samples=spec.search.trials * (1 + spec.search.retries),
                    reuse_actors=True,
                ),
                run_config=ray.tune.RunConfig(
                    name="search",
                    storage_path=str(folder),
                    verbose=0,
                    callbacks=[Recorder(records, feed, warn)],
                    checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
    finally:  # a second Ctrl-C, or a fault of Ray's, comes out of `fit` itself
        for running in records.in_state(State.RUNNING):
            records.ended(running.number, State.KILLED, "the search was interrupted")
            on_change(records.trials[running.number])
    return feed.ending


def take_sigterm_for_ctrl_c() -> None:
    """What batch systems and `kill` send ends a search as Ctrl-C does; `ray.init` leaves a handler that aborts."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_ctrl_c)


def _as_ctrl_c(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell started this process in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """Ray Tune catches Ctrl-C for itself, and goes on doing so, unheard, when its work is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def measure_all(
    subject: trial.Subject, jobs: Sequence[trial.Job], plan: Plan, warn: Callable[[str], None], *, on_test: bool
) -> Iterator[Measurement | None]:
    """Measures the jobs in parallel and yields their measurements in the jobs' order, None for one that failed.

    A job whose process or node died is run again, RETRIES times at most; one that ran out of memory once, by itself;
    one whose GPU failed, which may be others' doing, by itself and RETRIES times at most.
    """
    shared = ray.put(subject)
    measure = retest.measure_on_test if on_test else trial.measure_on_validation
    # Ray's own retries have no end where its memory monitor kills the task (task_oom_retries). Of a task with a share
    # of a GPU it ends the process each time, and the next one starts from its imports on; that is needed only where a
    # node has several, of which the next task may be given another.
    cpus, gpus, once = plan.cpus_per_trial, plan.gpus_per_trial, int(bool(plan.gpus_per_trial) and several_gpus())
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=once)(slot.measure)

    def start(place: int) -> Any:
        return task.remote(measure, shared, jobs[place].config, jobs[place].seed, plan.threads_per_trial)

    longest_first = sorted(range(len(jobs)), key=lambda place: _relative_cost(jobs[place].config), reverse=True)
    started = {place: start(place) for place in longest_first}
    try:
        for place in range(len(jobs)):
            measurement = _measured(started[place])
            alone = False
            for _ in range(RETRIES):
                crowded = slot.crowded(measurement) and not alone
                if not crowded and not slot.died(measurement):
                    break
                if crowded:
                    ray.wait(list(started.values()), num_returns=len(started))
                    alone = True
                started[place] = start(place)
                measurement = _measured(started[place])
            del started[place]
            if isinstance(measurement, Exception):
                warn(f"a configuration could not be measured: {str(measurement).strip().splitlines()[-1]}")
            yield measurement if isinstance(measurement, Measurement) else None
    finally:
        for reference in started.values():  # only what is left of them: cancelling an ended task can abort Ray
            ray.cancel(reference, force=True)


def _measured(reference: Any) -> Measurement | Exception:
    try:
        measurement: Measurement = ray.get(reference)
    except (trial.NotFiniteError, RayError) as error:
        if isinstance(slot.cause(error), slot.DeviceError):
            time.sleep(2 * slot.LEAVING)  # or its process, which ends, is given the next one
        return error
    return measurement


def _relative_cost(config: AdaptConfig) -> float:
    """A guess at the share of the stream that is adapted on, so that no slot starts the longest job at the end."""
    if config.target == "none":
        return 0.0
    return {"open": 1.0, "random": 1 - config.random_rate}.get(config.gate, 0.5)
