"""Measurements after the search: baselines on validation, front and baselines on test, as many at once as planned."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search import retest
from search.running import worker
from search.running.cluster import several_gpus
from search.running.faults import DeviceError, cause, crowded, died
from search.running.plan import WORKER_BYTES, Plan, for_trials, memory_limits
from search.subject import Job, NotFiniteError, Subject, measure_on_validation

RETRIES = 3  # of one measurement


def measure_all(
    subject: Subject,
    jobs: Sequence[Job],
    plan: Plan,
    warn: Callable[[str], None],
    *,
    on_test: bool,
    done: Callable[[], None] = lambda: None,
) -> Iterator[Measurement | None]:
    """Measures the jobs, at most `plan.concurrency` at once, and yields their measurements in the jobs' order.

    `done` is called as each outcome comes in, whatever its place.

    A job that fails yields None. One whose process or node died runs again, at most RETRIES times. One that ran out of
    memory runs once more, with nothing beside it. One whose GPU failed, perhaps because of a job beside it, runs alone
    and at most RETRIES times.
    """
    task, shared = _task(plan), ray.put(subject)

    def start(place: int) -> Any:
        job = jobs[place]
        function = retest.measure_on_test if on_test else partial(measure_on_validation, serving=job.serving)
        return task.remote(function, shared, job.config, job.seed, plan.threads_per_trial)

    queue = _Queue(jobs, plan.concurrency, start, done)
    try:
        for place in range(len(jobs)):
            outcome = queue.outcome(place)
            if isinstance(outcome, Exception):
                warn(f"a configuration could not be measured: {str(outcome).strip().splitlines()[-1]}")
            yield outcome if isinstance(outcome, Measurement) else None
    finally:
        queue.cancel()


class _Queue:
    """Jobs by their place: those that wait, those that run, and the outcomes not yet handed out."""

    def __init__(self, jobs: Sequence[Job], concurrency: int, start: Callable[[int], Any], done: Callable[[], None]):
        longest_first = sorted(range(len(jobs)), key=lambda place: _relative_cost(jobs[place].config), reverse=True)
        self._waiting, self._concurrency = deque(longest_first), concurrency
        self._start, self._done = start, done
        self._running: dict[Any, int] = {}  # by Ray's reference
        self._alone: set[int] = set()  # jobs that run with nothing beside them
        self._retries = Counter[int]()
        self._outcomes: dict[int, Measurement | Exception] = {}

    def outcome(self, place: int) -> Measurement | Exception:
        """Runs jobs until this one has its outcome; others go on while the caller works with it."""
        self._fill()
        while place not in self._outcomes:
            self._collect()
            self._fill()
        return self._outcomes.pop(place)

    def cancel(self) -> None:
        """Ends the jobs that still run. Cancelling one that has ended can abort Ray.

        An unfinished iterator may be closed after Ray has ended, and `ray.wait` would then start another Ray.
        """
        if not self._running or not ray.is_initialized():
            return
        _, unfinished = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in unfinished:
            ray.cancel(reference, force=True)

    def _fill(self) -> None:
        while self._waiting and self._has_room(self._waiting[0]):
            place = self._waiting.popleft()
            self._running[self._start(place)] = place

    def _has_room(self, place: int) -> bool:
        if place in self._alone:
            return not self._running
        return len(self._running) < self._concurrency and self._alone.isdisjoint(self._running.values())

    def _collect(self) -> None:
        """Waits for one running job, and keeps its outcome or queues it again."""
        (reference,), _ = ray.wait(list(self._running), num_returns=1)
        outcome = _result(reference)
        place = self._running.pop(reference)
        if not self._again(place, outcome):
            self._outcomes[place] = outcome
            self._done()

    def _again(self, place: int, outcome: Measurement | Exception) -> bool:
        """Whether the job was queued once more: at the end if it must run alone, else at the head."""
        needs_solitude = crowded(outcome) and place not in self._alone
        if self._retries[place] == RETRIES or not (needs_solitude or died(outcome)):
            return False
        self._retries[place] += 1
        if needs_solitude:
            self._alone.add(place)
            self._waiting.append(place)
        else:
            self._waiting.appendleft(place)
        return True


def _task(plan: Plan) -> Any:
    """The remote function that measures one job.

    max_retries: Ray's own retries have no end where its memory monitor kills a task (`task_oom_retries`).
    max_calls: by default Ray ends the process after every fractional-GPU task, so each job would pay for its imports
    again. A node with several GPUs needs that, since the next task may be given another of them.
    """
    once = int(bool(plan.gpus_per_trial) and several_gpus())
    cpus, gpus = plan.cpus_per_trial, plan.gpus_per_trial
    return ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=once)(worker.measure)


def _result(reference: Any) -> Measurement | Exception:
    try:
        measurement: Measurement = ray.get(reference)
    except (NotFiniteError, RayError) as error:
        if isinstance(cause(error), DeviceError):
            time.sleep(2 * worker.LEAVING)  # until its process has ended, so that Ray gives it no other job
        return error
    return measurement


def _relative_cost(config: AdaptConfig) -> float:
    """A guess at the share of samples adapted on. The longest jobs start first, so that none runs alone at the end."""
    if config.target == "none":
        return 0.0
    return {"open": 1.0, "random": 1 - config.random_rate}.get(config.gate, 0.5)


def start_processes(plan: Plan) -> None:
    """Starts processes for the measurements while the last trials run, so that no measurement waits for imports.

    The measurements cannot use Tune's processes. Those that need a GPU cannot use processes started without one. Trials
    have the first claim on memory.
    """
    if plan.gpus_per_trial:
        return
    _, free = memory_limits()
    for _ in range(min(plan.concurrency, int(for_trials(free) / WORKER_BYTES))):
        ray.remote(num_cpus=0, max_retries=0)(worker.import_modules).remote()
