"""Writes the end of every trial to the records, and only then tells the searcher."""

import math
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.tune
from ray.tune.experiment import Trial as RayTrial

from search.records.records import Records
from search.records.states import State
from search.running import pacing
from search.running.faults import Fault, Kind, fault_of
from search.running.searcher import JournalSearcher


class Recorder(ray.tune.Callback):
    """Ray Tune's callback that records ends, decides on retries and enforces `search.trial_timeout`."""

    def __init__(self, records: Records, searcher: JournalSearcher, warn: Callable[[str], Any]):
        self.records, self.searcher, self.warn = records, searcher, warn
        self._begun: dict[str, float] = {}  # when a trial began to be measured, by Ray's trial id
        self._prepared: set[Any] = set()  # workers that have done their first step
        self._overdue: set[str] = set()

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Kills the workers of trials that are over their time limit; Ray then reports these trials as failed."""
        now, limit = time.monotonic(), self.searcher.spec.search.trial_timeout or math.inf
        for running in (each for each in trials if each.status == RayTrial.RUNNING):
            worker = pacing.worker_of(running)
            over = now - self._begun.get(running.trial_id, math.inf) > limit
            if over and worker is not None and running.trial_id not in self._overdue:
                self._overdue.add(running.trial_id)
                ray.kill(worker)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self.searcher.draw_ahead()

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        if pacing.worker_of(trial) in self._prepared:
            self._begun[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Starts the trial's time anew, since its worker has imported, prepared or been held until now."""
        if "up" in result:
            self._begun[trial.trial_id] = time.monotonic()
            self._prepared.add(pacing.worker_of(trial))

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        number, result = self.searcher.numbers[trial.trial_id], trial.last_result
        if "error" in result:
            self.records.ended(number, State.FAILED, result["error"], result["traceback"])
        elif "pruned" in result:
            self.records.ended(number, State.PRUNED, result["pruned"])
        else:
            self.records.finished(number, result["metrics"], result["curve"], result["outcomes"])
        self.searcher.ended(number)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        pacing.forget_first_call(trial)
        number, fault = self.searcher.numbers[trial.trial_id], self._fault(trial)
        if self.searcher.retry(number, fault):
            self.warn(f"{self.records.trials[number].trial_id} is tried again: {fault.reason}")
            return
        retries = self.records.trials[number].retries
        reason = f"{fault.reason}; attempt {retries + 1}" if retries else fault.reason
        self.records.ended(number, State.FAILED, reason, fault.traceback)
        self.searcher.ended(number)

    def _fault(self, trial: RayTrial) -> Fault:
        fault = fault_of(trial)
        if trial.trial_id not in self._overdue:
            return fault
        reason = f"over its time limit of {self.searcher.spec.search.trial_timeout:g} s (search.trial_timeout)"
        return Fault(Kind.ERROR, reason, fault.traceback)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles callbacks into an experiment file that no one reads."""
        return {}
