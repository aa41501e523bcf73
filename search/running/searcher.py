"""The driver's side of Ray Tune: `Feed` hands out trials, `Recorder` writes their ends, `InOrder` keeps their order.

An attempt at a trial is one trial of Ray's. A trial has its number, its place in the study and its MLflow run from its
first attempt on; whatever has to be tried again keeps them, and the study hears of the end alone.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import ray
import ray.tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution import tune_controller as ray_controller
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.records import Ending, Records, State, Trial
from search.running import worker as slot
from search.running.plan import Plan
from search.running.suggest import Suggestions
from search.running.worker import Fault, Kind
from search.spec import Spec, trial_config, trial_seed

PATIENCE = 30.0  # seconds that workers wait for one that does not come


class Feed(Searcher):
    """Ray's view of `Suggestions`: a suggestion, or None while it must wait for results or for a worker."""

    def __init__(self, spec: Spec, records: Records, plan: Plan, on_change: Callable[[Trial], Any]):
        super().__init__()
        self.spec, self.records, self.plan, self.on_change = spec, records, plan, on_change
        self.suggestions = Suggestions(spec, plan.concurrency)
        self.numbers: dict[str, int] = {}  # by Ray's trial id
        self.starting = False  # whether a worker is: a trial given to another waits for it
        self.workers = 0  # that have their resources, those that start among them
        self._running: set[int] = set()
        self._again: deque[int] = deque()
        self._alone: set[int] = set()  # to be measured with nothing beside them
        self._next = 0
        self._ahead: dict[str, Any] | None = None  # the parameters of the next trial, once they are drawn
        self._exhausted = self._measures_next = self._failing = False
        self._failures_in_a_row = 0

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        if self._failing:
            return Searcher.FINISHED
        if len(self._running) == self.plan.concurrency or self._running & self._alone:
            return None
        if self._again:
            if self._again[0] in self._alone and self._running:
                return None
            number = self._again.popleft()
            return self._start(trial_id, number, self.records.trials[number].parameters)
        following = self._following()
        if following is not None:
            return self._start(trial_id, *following)
        if self._next < self.spec.search.trials and not self._exhausted:
            return None
        if not self._measures_next:
            self._measures_next = True
            start_workers(self.plan)
        return None if self._running else Searcher.FINISHED  # what runs may have to be tried again

    def draw_ahead(self) -> None:
        """Draws the next suggestion while all slots are busy: none then waits for the sampler."""
        if len(self._running) == self.plan.concurrency and self._next < self.spec.search.trials:
            self._draw()

    def ended(self, number: int) -> None:
        """To be called when the records hold the end of trial `number`."""
        ended = self.records.trials[number]
        self._running.remove(number)
        self._failures_in_a_row = 0 if ended.state is State.FINISHED else self._failures_in_a_row + 1
        if self._failures_in_a_row >= self.spec.search.max_failures_in_a_row:
            self._failing = True  # for good: what still runs then may well finish
        self.suggestions.tell(number, self._objectives(ended.metrics))
        self.on_change(ended)

    def retry(self, number: int, fault: Fault) -> bool:
        """Whether trial `number` is tried again; the records then hold its failed attempt."""
        crowded = self.plan.concurrency > 1 and number not in self._alone
        transient = fault.kind is Kind.DIED or (fault.kind is Kind.CROWDED and crowded)
        if not transient or self._failing or self.records.trials[number].retries >= self.spec.search.retries:
            return False
        self.records.retried(number, fault.reason, fault.traceback)
        self._running.remove(number)
        self._again.append(number)
        if fault.kind is Kind.CROWDED:
            self._alone.add(number)
        return True

    @property
    def idle(self) -> int:
        """How many workers may wait for a trial: none beside one that needs the memory, or when no more will come."""
        alone = self._alone & self._running or (self._again and self._again[0] in self._alone)
        return 0 if alone or self._measures_next or self._failing else self.plan.concurrency

    @property
    def ending(self) -> Ending:
        """Why the search ended, once it has."""
        if self._failing:
            return Ending.FAILING
        whole = self._exhausted or self._next == self.spec.search.trials
        if self.records.in_state(State.KILLED) or not whole:
            return Ending.INTERRUPTED
        return Ending.COMPLETE if self.records.in_state(State.FINISHED) else Ending.ALL_FAILED

    def _following(self) -> tuple[int, dict[str, Any]] | None:
        """The next suggestion that has no end yet; the study hears of those that have one."""
        while self._next < self.spec.search.trials and self._draw() and self._ahead is not None:
            number, parameters, self._ahead = self._next, self._ahead, None
            self._next += 1
            known = self.records.trials.get(number)
            if known is None or known.state not in (State.FINISHED, State.FAILED):
                return number, parameters
            self.suggestions.tell(number, self._objectives(known.metrics))
        return None

    def _start(self, trial_id: str, number: int, parameters: dict[str, Any]) -> dict[str, Any]:
        self.numbers[trial_id] = number
        self._running.add(number)
        self.records.started(number, parameters)
        self.on_change(self.records.trials[number])
        config = trial_config(self.spec, parameters)
        seed = trial_seed(self.spec.search.seed, config)
        return {"adapt": dict(vars(config)), "seed": seed, "wait": self.starting}

    def _draw(self) -> bool:
        """Whether the next suggestion is known; that of an exhausted space is None."""
        if self._ahead is None and not self._exhausted:
            if not self.suggestions.ready():
                return False
            known = self.records.trials.get(self._next)
            self._ahead = self.suggestions.ask(known.parameters if known else None)
            self._exhausted = self._ahead is None
        return True

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


class Workers(RayActorManager):
    """Ray Tune's workers, of which one that the memory monitor ends has died.

    The error of such a worker is neither of the two that Ray 2.60 expects here: it ends the whole search, on a cluster
    whose monitor only its owner can switch off as well.
    """

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, slot.death(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, slot.death(exception))


ray_controller.RayActorManager = Workers  # type: ignore[attr-defined]  # there is no option for it


class InOrder(FIFOScheduler):
    """Each trial keeps the worker that starts for it, and a worker without a trial waits for one.

    Tune's own order gives a trial a worker that has fallen free and drops the one that starts, for ever fewer at once.
    Of the workers for which no trial is pending it keeps one: where suggestions wait for a result, the others would
    have to start anew.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._idle = 0

    def choose_trial_to_run(self, tune_controller: Any) -> RayTrial | None:
        """None: the controller starts what is pending, in the order of suggestion. It alone knows of its workers."""
        feed: Feed = tune_controller.search_alg.searcher
        controller = tune_controller._tune_controller
        feed.workers = controller._actor_manager.num_live_actors
        for trial in controller.get_trials()[:1]:  # all of them ask for the same resources
            controller._actor_cache.increase_max(trial.placement_group_factory, feed.idle - self._idle)
            self._idle = feed.idle
        return None


class Recorder(ray.tune.Callback):
    """Writes every trial's end to the records first, and then lets the feed and the tracker know."""

    def __init__(self, records: Records, feed: Feed, warn: Callable[[str], Any]):
        self.records, self.feed, self.warn = records, feed, warn
        self._begun: dict[str, float] = {}  # by Ray's trial id
        self._overdue: set[str] = set()
        self._up: set[Any] = set()  # workers that have imported what they need
        self._waiting: dict[Any, float] = {}  # workers that are held back, and since when
        self._slots = feed.plan.concurrency  # workers that can be at once, as far as is known

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self.feed.starting = self._starting(trials)
        self._kill_overdue(trials)

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """To a trial whose worker is still starting Tune gives one that falls free, and drops the one that starts.

        So that trials shorter than a start (seconds) use all slots, workers wait for those that start. The cluster may
        have fewer slots than planned, or lose some: those that were waited for in vain are not waited for again before
        a worker has their resources.
        """
        if self._waiting:
            waited = time.monotonic() - min(self._waiting.values())
            if waited > PATIENCE:
                self._slots = self.feed.workers
            if waited > PATIENCE or not self._starting(trials):
                for worker in self._waiting:
                    worker.begin.remote()
                self._waiting.clear()
        self.feed.draw_ahead()

    def _starting(self, trials: list[RayTrial]) -> bool:
        """Whether a trial has no worker that is up, but a slot.

        A pending trial whose worker does not exist yet counts: moments lie between one that Tune drops and the next.
        """
        self._slots = max(self._slots, self.feed.workers)
        live = [each for each in trials if each.status in (RayTrial.PENDING, RayTrial.RUNNING)]
        up = sum(each.temporary_state.ray_actor in self._up for each in live)
        return up < min(len(live), self._slots)

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        if trial.temporary_state.ray_actor in self._up:
            self._begun[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Importing, preparing and waiting for others is not the trial's time."""
        if "up" in result:
            worker: Any = trial.temporary_state.ray_actor
            self._begun[trial.trial_id] = time.monotonic()
            self._up.add(worker)
            self._waiting.setdefault(worker, time.monotonic())

    def _kill_overdue(self, trials: list[RayTrial]) -> None:
        """Kills the worker of a trial that is over its time limit; Ray then reports the trial's error."""
        limit = self.feed.spec.search.trial_timeout
        for running in (each for each in trials if each.status == RayTrial.RUNNING):
            worker = running.temporary_state.ray_actor
            over = time.monotonic() - self._begun.get(running.trial_id, math.inf) > (limit or math.inf)
            if over and worker is not None and running.trial_id not in self._overdue:
                self._overdue.add(running.trial_id)
                ray.kill(worker)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        number, result = self.feed.numbers[trial.trial_id], trial.last_result
        if "error" in result:
            self.records.ended(number, State.FAILED, result["error"], result["traceback"])
        else:
            self.records.finished(number, result["metrics"], result["curve"])
        self.feed.ended(number)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        trial._default_result_or_future = None  # Tune reads it at the end, and raises if the memory monitor was first
        number, fault = self.feed.numbers[trial.trial_id], slot.fault(trial)
        if trial.trial_id in self._overdue:
            reason = f"over its time limit of {self.feed.spec.search.trial_timeout:g} s (search.trial_timeout)"
            fault = Fault(Kind.ERROR, reason, fault.traceback)
        if self.feed.retry(number, fault):
            self.warn(f"{self.records.trials[number].trial_id} is tried again: {fault.reason}")
            return
        retries = self.records.trials[number].retries
        reason = f"{fault.reason}; attempt {retries + 1}" if retries else fault.reason
        self.records.ended(number, State.FAILED, reason, fault.traceback)
        self.feed.ended(number)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as above


def start_workers(plan: Plan) -> None:
    """Lets processes for the next measurements start and import while the last trials run; Tune keeps its own.

    Not where they want a GPU: Ray starts others for those, once there is one.
    """
    if plan.gpus_per_trial:
        return
    for _ in range(plan.concurrency):
        ray.remote(num_cpus=0)(slot.be_there).remote()
