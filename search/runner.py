"""Runs trials in parallel: the only file that knows Ray.

A trial's way: `_Searcher.suggest` -> Ray Tune starts `_trial` in a worker -> it reports once -> `_Recorder` writes the
end to the records -> the searcher may tell the study. Ray's own experiment files are scratch and never read again.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune
import torch
from ray.exceptions import RayError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from etarec.config import AdaptConfig, UserError
from etarec.evaluate import Measurement
from search import retest, trial
from search.records import Ending, Records, State, Trial
from search.spec import SearchConfig, Spec, trial_config, trial_seed
from search.suggest import Suggestions

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


@dataclass(frozen=True)
class Plan:
    """How many trials run at once, and with what."""

    concurrency: int
    threads_per_trial: int
    cpus_per_trial: float
    gpus_per_trial: float

    @property
    def resources(self) -> dict[str, float]:
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}


def plan(search: SearchConfig, cpus: float, gpus: float) -> Plan:
    """`auto` fills the machine's or cluster's cores and GPUs; a trial computes with as many threads as cores it has."""
    if search.gpus_per_trial > gpus:
        raise UserError(f"search.gpus_per_trial: {search.gpus_per_trial:g} asked for, but there are {gpus:g} GPUs")
    by_gpu = gpus / search.gpus_per_trial if search.gpus_per_trial else math.inf
    fitting = max(1, int(min(cpus / search.cpus_per_trial, by_gpu) + 1e-9))
    concurrency = fitting if search.concurrency == "auto" else search.concurrency
    return Plan(
        min(concurrency, search.trials),
        max(1, int(search.cpus_per_trial)),
        search.cpus_per_trial,
        search.gpus_per_trial,
    )


def plan_ahead(search: SearchConfig, address: str | None) -> Plan:
    """The plan without a search: of this machine from its own counts, of a cluster by asking it."""
    if address is None:
        return plan(search, _bookkept_cpus(search), torch.cuda.device_count())
    with cluster(search, address) as planned:
        return planned


@contextmanager
def cluster(search: SearchConfig, address: str | None) -> Iterator[Plan]:
    """A Ray cluster for the time of the block: the one at `address`, or one of this machine's own."""
    if address is not None:
        _check_address(address)
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": _bookkept_cpus(search)}
        # Workers of this machine import what this process imports, installed or not.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path) or os.getcwd()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(**options)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from error
    try:
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield plan(search, total.get("CPU", 1), total.get("GPU", 0))
    finally:
        ray.shutdown()


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


def _bookkept_cpus(search: SearchConfig) -> int:
    """Cores that Ray hands out on this machine; more than it has where the user asks for more trials at once."""
    asked = 1 if search.concurrency == "auto" else math.ceil(search.concurrency * search.cpus_per_trial)
    return max(os.cpu_count() or 1, asked, math.ceil(search.cpus_per_trial))


def run_search(
    spec: Spec, subject: trial.Subject, records: Records, plan: Plan, on_change: Callable[[Trial], Any]
) -> Ending:
    """Measures `spec.search.trials` configurations; those that the records hold already are not measured again.

    A space with fewer configurations than that is complete with all of them. What runs when Ctrl-C comes is KILLED.
    """
    searcher = _Searcher(spec, records, plan.concurrency, on_change)
    trainable = ray.tune.with_parameters(_trial, subject=subject, threads=plan.threads_per_trial)
    with tempfile.TemporaryDirectory(prefix="etarec-ray-") as scratch:
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(trainable, plan.resources),
            tune_config=ray.tune.TuneConfig(search_alg=searcher, num_samples=spec.search.trials, reuse_actors=True),
            run_config=ray.tune.RunConfig(
                name="search", storage_path=scratch, verbose=0, callbacks=[_Recorder(records, searcher)]
            ),
        )
        tuner.fit()
    for running in records.in_state(State.RUNNING):
        records.ended(running.number, State.KILLED, "the search was interrupted")
        on_change(records.trials[running.number])
    return searcher.ending


def _trial(config: dict[str, Any], subject: trial.Subject, threads: int) -> None:
    measured = trial.measure_on_validation(subject, AdaptConfig(**config["adapt"]), config["seed"], threads)
    ray.tune.report({"metrics": measured.metrics(), "curve": measured.curve()})


class _Searcher(Searcher):
    """Ray's view of `Suggestions`: a suggestion, or None while it must wait for results."""

    def __init__(self, spec: Spec, records: Records, concurrency: int, on_change: Callable[[Trial], Any]):
        super().__init__()
        self.spec, self.records, self.on_change = spec, records, on_change
        self.suggestions = Suggestions(spec, concurrency)
        self.numbers: dict[str, int] = {}  # by Ray's trial id
        self._next = 0
        self._exhausted = False
        self._failures_in_a_row = 0

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        while self._next < self.spec.search.trials and not self._failing:
            if not self.suggestions.ready():
                return None
            number = self._next
            known = self.records.trials.get(number)
            parameters = self.suggestions.ask(known.parameters if known else None)
            if parameters is None:
                self._exhausted = True
                break
            self._next += 1
            if known and known.state in (State.FINISHED, State.FAILED):
                self.suggestions.tell(number, self._objectives(known.metrics))
                continue
            self.numbers[trial_id] = number
            self.records.started(number, parameters)
            self.on_change(self.records.trials[number])
            return self._task(parameters)
        return Searcher.FINISHED

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

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self._begun[trial.trial_id] = time.monotonic()

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
    if not jobs:
        return
    shared = ray.put(subject)
    measure = retest.measure_on_test if on_test else trial.measure_on_validation
    task = ray.remote(num_cpus=plan.cpus_per_trial, num_gpus=plan.gpus_per_trial)(_measure)
    waiting = deque(task.remote(measure, shared, job.config, job.seed, plan.threads_per_trial) for job in jobs)
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


def _measure(
    measure: Callable[..., Measurement], subject: trial.Subject, config: AdaptConfig, seed: int, threads: int
) -> Measurement:
    return measure(subject, config, seed, threads)
