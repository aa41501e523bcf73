"""Runs trials in parallel: the only file that knows Ray.

A trial's way: `_Searcher.suggest` -> Ray Tune gives it to a worker, a `_Slot` -> one step of it measures -> `_Recorder`
writes the end to the records -> the searcher may tell the study. Ray's own experiment files are scratch and never read
again.
"""

import logging
import math
import os
import re
import socket
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
import ray.tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from etarec.config import AdaptConfig, UserError
from etarec.evaluate import Measurement
from search import retest, trial
from search.plan import WORKER_BYTES, Machine, Plan, cores, of_cluster, plan, this_machine
from search.records import Ending, Records, State, Trial
from search.spec import SearchConfig, Spec, trial_config, trial_seed
from search.suggest import Suggestions

PATIENCE = 30.0  # seconds that the first workers wait for one that does not come

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial that reserves no GPU sees none
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "60",
}

_WAITING = {"OMP_WAIT_POLICY": "passive"}  # threads of trials side by side sleep when they wait, spinning steals cores
_WORKERS = {
    **_WAITING,
    "RAY_idle_worker_killing_time_threshold_ms": "60000",  # those of `_start_workers` are there before their work is
}


def machine(address: str | None) -> Machine:
    """What there is to plan with, without a search: this machine's own counts, or a cluster's by asking it."""
    if address is None:
        return this_machine()
    with _ray(address):
        return of_cluster(ray.cluster_resources())  # type: ignore[no-untyped-call]


@contextmanager
def cluster(search: SearchConfig, address: str | None, need: float = WORKER_BYTES) -> Iterator[Plan]:
    """A Ray cluster for the time of the block: the one at `address`, or one of this machine's own.

    need: bytes of memory per trial.
    """
    if address is not None:
        with _ray(address, runtime_env={"env_vars": _WAITING}):
            yield plan(search, of_cluster(ray.cluster_resources()), need)  # type: ignore[no-untyped-call]
        return
    planned = plan(search, this_machine(), need)
    # Workers of this machine import what this process imports, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path) or os.getcwd()
    with _ray(None, include_dashboard=False, num_cpus=max(cores(), math.ceil(_cpus(planned)))):
        yield planned


@contextmanager
def _ray(address: str | None, **options: Any) -> Iterator[None]:
    if address is not None:
        _check_address(address)
    os.environ.update({key: os.environ.get(key, value) for key, value in (_QUIET | _WORKERS).items()})
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _cpus(plan: Plan) -> float:
    """Cores that Ray is to hand out; more than the machine has where the user asks for more trials at once."""
    return plan.concurrency * plan.cpus_per_trial


def _check_address(address: str) -> None:
    """Ray tries a dead address for minutes; a closed port is known at once."""
    if address == "auto":
        return
    found = re.fullmatch(r"(?:ray://)?([^:/\s]+):(\d{1,5})", address)
    if found is None:
        raise UserError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from error


def run_search(
    spec: Spec, subject: trial.Subject, records: Records, plan: Plan, on_change: Callable[[Trial], Any]
) -> Ending:
    """Measures `spec.search.trials` configurations; those that the records hold already are not measured again.

    A space with fewer configurations than that is complete with all of them. What runs when Ctrl-C comes is KILLED.
    """
    searcher = _Searcher(spec, records, plan, on_change)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.concurrency)  # all workers start at once
    slot = ray.tune.with_parameters(_Slot, subject=subject, threads=plan.threads_per_trial)
    with tempfile.TemporaryDirectory(prefix="etarec-ray-") as scratch:
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(slot, plan.resources),
            tune_config=ray.tune.TuneConfig(search_alg=searcher, num_samples=spec.search.trials, reuse_actors=True),
            run_config=ray.tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Recorder(records, searcher)],
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    for running in records.in_state(State.RUNNING):
        records.ended(running.number, State.KILLED, "the search was interrupted")
        on_change(records.trials[running.number])
    return searcher.ending


# What workers run of this module travels as code, not as its name: they need not import what only the driver uses.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]


class _Slot(ray.tune.Trainable):
    """A worker. It reports that it is up until it is told to begin; from then on each step measures one trial."""

    def setup(self, config: dict[str, Any], subject: trial.Subject | None = None, threads: int = 1) -> None:
        self.subject, self.threads, self.begun = subject, threads, False

    def begin(self) -> None:
        self.begun = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        if not self.begun:
            time.sleep(0.05)
            return {"up": True}
        config = AdaptConfig(**self.config["adapt"])
        assert self.subject is not None
        measured = trial.measure_on_validation(self.subject, config, self.config["seed"], self.threads)
        return {"metrics": measured.metrics(), "curve": measured.curve(), "done": True}


class _Searcher(Searcher):
    """Ray's view of `Suggestions`: a suggestion, or None while it must wait for results or for a worker."""

    def __init__(self, spec: Spec, records: Records, plan: Plan, on_change: Callable[[Trial], Any]):
        super().__init__()
        self.spec, self.records, self.on_change = spec, records, on_change
        self.suggestions = Suggestions(spec, plan.concurrency)
        self.plan = plan
        self._running = 0
        self.numbers: dict[str, int] = {}  # by Ray's trial id
        self._next = 0
        self._ahead: dict[str, Any] | None = None  # the parameters of the next trial, once they are drawn
        self._exhausted = self._measures_next = False
        self._failures_in_a_row = 0

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        while self._next < self.spec.search.trials and not self._failing:
            if self._running == self.plan.concurrency or not self._draw():
                return None
            if self._ahead is None:
                break
            number, parameters, self._ahead = self._next, self._ahead, None
            known = self.records.trials.get(number)
            self._next += 1
            if known and known.state in (State.FINISHED, State.FAILED):
                self.suggestions.tell(number, self._objectives(known.metrics))
                continue
            self.numbers[trial_id] = number
            self._running += 1
            self.records.started(number, parameters)
            self.on_change(self.records.trials[number])
            return self._task(parameters)
        if not self._measures_next:
            self._measures_next = True
            _start_workers(self.plan)
        return Searcher.FINISHED

    def draw_ahead(self) -> None:
        """Draws the next suggestion while all slots are busy: none then waits for the sampler."""
        if self._running == self.plan.concurrency and self._next < self.spec.search.trials:
            self._draw()

    def _draw(self) -> bool:
        """Whether the next suggestion is known; that of an exhausted space is None."""
        if self._ahead is None and not self._exhausted:
            if not self.suggestions.ready():
                return False
            known = self.records.trials.get(self._next)
            self._ahead = self.suggestions.ask(known.parameters if known else None)
            self._exhausted = self._ahead is None
        return True

    @property
    def _failing(self) -> bool:
        return self._failures_in_a_row >= self.spec.search.max_failures_in_a_row

    @property
    def ending(self) -> Ending:
        """Why the search ended, once it has."""
        if self._failing:
            return Ending.FAILING
        whole = self._exhausted or self._next == self.spec.search.trials
        return Ending.INTERRUPTED if self.records.in_state(State.KILLED) or not whole else Ending.COMPLETE

    def _task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        config = trial_config(self.spec, parameters)
        return {"adapt": vars_of(config), "seed": trial_seed(self.spec.search.seed, config)}

    def ended(self, number: int) -> None:
        """To be called when the records hold the end of trial `number`."""
        ended = self.records.trials[number]
        self._running -= 1
        self._failures_in_a_row = 0 if ended.state is State.FINISHED else self._failures_in_a_row + 1
        self.suggestions.tell(number, self._objectives(ended.metrics))
        self.on_change(ended)

    def _objectives(self, metrics: dict[str, float]) -> list[float] | None:
        return [metrics[name] for name in self.spec.search.objectives] if metrics else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The recorder speaks up when the end is on disk."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records rebuild the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search is resumed from the records."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # for Ray's own snapshot, which nobody reads


class _Recorder(ray.tune.Callback):
    """Writes every trial's end to the records first, and then lets the searcher and the tracker know."""

    def __init__(self, records: Records, searcher: _Searcher):
        self.records, self.searcher = records, searcher
        self._begun: dict[str, float] = {}  # by Ray's trial id
        self._overdue: set[str] = set()
        self._up: dict[Any, float] = {}  # workers that have imported what they need, and since when
        self._let_go = False

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        if trial.temporary_state.ray_actor in self._up:
            self._begun[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Importing and waiting for the others is not the trial's time."""
        if "up" in result:
            worker: Any = trial.temporary_state.ray_actor
            now = time.monotonic()
            self._begun[trial.trial_id] = now
            if self._let_go and worker not in self._up:
                worker.begin.remote()
            self._up.setdefault(worker, now)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        if not self._let_go and self._up:
            self._let_go_together(trials)
        self.searcher.draw_ahead()

    def _let_go_together(self, trials: list[RayTrial]) -> None:
        """To a trial whose worker is still starting Tune gives any that falls free, and drops the one that starts.

        So that trials shorter than a start (seconds) use all slots, the first workers wait for one another.
        """
        live = [each for each in trials if each.status in (RayTrial.PENDING, RayTrial.RUNNING)]
        waited = time.monotonic() - min(self._up.values())
        if all(each.temporary_state.ray_actor in self._up for each in live) or waited > PATIENCE:
            self._let_go = True
            for worker in self._up:
                worker.begin.remote()

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Kills the worker of a trial that is over its time limit; Ray then reports the trial's error."""
        limit = self.searcher.spec.search.trial_timeout
        for running in (each for each in trials if each.status == RayTrial.RUNNING):
            worker = running.temporary_state.ray_actor
            over = time.monotonic() - self._begun.get(running.trial_id, math.inf) > (limit or math.inf)
            if over and worker is not None and running.trial_id not in self._overdue:
                self._overdue.add(running.trial_id)
                ray.kill(worker)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        number = self.searcher.numbers[trial.trial_id]
        self.records.finished(number, trial.last_result["metrics"], trial.last_result["curve"])
        self.searcher.ended(number)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        number = self.searcher.numbers[trial.trial_id]
        reason, traceback = _reason(trial)
        if trial.trial_id in self._overdue:
            reason = f"over its time limit of {self.searcher.spec.search.trial_timeout:g} s (search.trial_timeout)"
        self.records.ended(number, State.FAILED, reason, traceback)
        self.searcher.ended(number)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as above


def _reason(trial: RayTrial) -> tuple[str, str]:
    """One line and the whole text of what ended a trial. Ray's error file holds the worker's traceback."""
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text().strip() if file and file.exists() else "Ray gave no reason"
    if "actor died" in text.lower():
        return "the worker process died (killed, or out of memory)", text
    return re.sub(r"^(\w+\.)+(?=\w+(:|$))", "", text.splitlines()[-1]), text  # without the exception's modules


def vars_of(config: AdaptConfig) -> dict[str, Any]:
    return dict(vars(config))


def measure_all(
    subject: trial.Subject, jobs: Sequence[trial.Job], plan: Plan, warn: Callable[[str], None], *, on_test: bool
) -> Iterator[Measurement | None]:
    """Measures the jobs in parallel and yields their measurements in the jobs' order, None for one that failed."""
    shared = ray.put(subject)
    measure = retest.measure_on_test if on_test else trial.measure_on_validation
    task = ray.remote(num_cpus=plan.cpus_per_trial, num_gpus=plan.gpus_per_trial)(_measure)
    longest_first = sorted(range(len(jobs)), key=lambda place: _relative_cost(jobs[place].config), reverse=True)
    started = {
        place: task.remote(measure, shared, jobs[place].config, jobs[place].seed, plan.threads_per_trial)
        for place in longest_first
    }
    waiting = deque(started[place] for place in range(len(jobs)))
    try:
        while waiting:
            try:
                measurement = ray.get(waiting[0])
            except (trial.NotFiniteError, RayError) as error:
                warn(f"a configuration could not be measured: {str(error).strip().splitlines()[-1]}")
                measurement = None
            waiting.popleft()
            yield measurement
    finally:
        for reference in waiting:  # only what is left of them: cancelling an ended task can abort Ray
            ray.cancel(reference, force=True)


def _relative_cost(config: AdaptConfig) -> float:
    """A guess at the share of the stream that is adapted on, so that no slot starts the longest job at the end."""
    if config.target == "none":
        return 0.0
    return {"open": 1.0, "random": 1 - config.random_rate}.get(config.gate, 0.5)


def _start_workers(plan: Plan) -> None:
    """Lets processes for `measure_all` start and import while the last trials run; Tune keeps its own to itself."""
    for _ in range(plan.concurrency):
        ray.remote(num_cpus=0)(_be_there).remote()


def _be_there() -> None:
    import search.retest  # noqa: F401  # and with it all that a measurement needs


def _measure(measure: Any, subject: Any, config: Any, seed: int, threads: int) -> Any:
    return measure(subject, config, seed, threads)
