"""Everything in this program that leans on private parts of Ray Tune, all of it seen in Ray 2.60.

Without it a search gives the same trials, but some workers stay idle, and one kill by Ray's memory monitor ends the
whole search. `ActorManager` and `forget_first_call` let a search survive that kill; `IdleWorkersScheduler` and `Pacing`
buy speed where trials are shorter than the start of a worker (table (h) of docs/performance.md): 0.1 s long, on two
workers, they ran at 706 a minute with both, 608 without kept idle workers, 497 without `Pacing` and 496 with neither.
tests/search/running/test_pacing.py fails where a later Ray lacks something that is used here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray.tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler

from search.running.faults import as_actor_error
from search.running.searcher import JournalSearcher

PATIENCE = 30.0  # seconds for which workers are held for one that does not come up


def worker_of(trial: RayTrial) -> Any:
    """The actor that runs a trial of Ray's, or None. Callbacks get no public handle of it."""
    return trial.temporary_state.ray_actor


def forget_first_call(trial: RayTrial) -> None:
    """Drops a lost worker's answer to Tune's first call.

    Ray 2.60 reads the answer of every trial at the end of the search, and raises if the memory monitor killed the
    worker before it answered.
    """
    trial._default_result_or_future = None


class ActorManager(RayActorManager):
    """Ray Tune's workers, where the memory monitor's kill counts as a worker's death.

    Ray 2.60 expects an actor's or a task's error here. The monitor's is neither, so Tune ends the whole search, and on
    a shared cluster only its owner can switch the monitor off.
    """

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, as_actor_error(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, as_actor_error(exception))


@contextmanager
def tolerant_actor_manager() -> Iterator[None]:
    """Lets Tune use `ActorManager` for searches that start in the block. Tune has no option for it."""
    before = tune_controller.RayActorManager  # type: ignore[attr-defined]
    tune_controller.RayActorManager = ActorManager  # type: ignore[attr-defined]
    try:
        yield
    finally:
        tune_controller.RayActorManager = before  # type: ignore[attr-defined]


class IdleWorkersScheduler(FIFOScheduler):
    """Lets workers without a trial wait for one."""

    def __init__(self, searcher: JournalSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.workers = 0  # with resources, those still starting among them
        self._searcher, self._kept = searcher, 0

    def choose_trial_to_run(self, tune_controller: Any) -> RayTrial | None:
        """The first pending trial, as Tune's own scheduler would choose."""
        controller = tune_controller._tune_controller
        self.workers = controller._actor_manager.num_live_actors
        self._keep_idle_workers(controller)
        return super().choose_trial_to_run(tune_controller)

    def _keep_idle_workers(self, controller: Any) -> None:
        """Lets Tune keep as many idle workers as the searcher allows.

        Ray 2.60 keeps a single idle worker while no trial is pending and ends the others. Suggestions often wait for a
        result, and after each such wait the other workers would have to start again.
        """
        for trial in controller.get_trials()[:1]:  # all trials ask for the same resources
            controller._actor_cache.increase_max(
                trial.placement_group_factory, self._searcher.idle_workers - self._kept
            )
            self._kept = self._searcher.idle_workers

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles schedulers into an experiment file that no one reads."""
        return {}


class Pacing(ray.tune.Callback):
    """Holds workers that are up until those still starting are up too.

    Ray 2.60 gives an idle worker to a trial whose own worker is starting, and cancels the latter. Trials that are
    shorter than a start, which takes seconds, would then all run on the first worker that came up.

    slots: how many workers can exist at once. A cluster may have fewer than planned, or lose some. The missing ones are
    waited for once; after that, not before another worker has got resources.
    """

    def __init__(self, scheduler: IdleWorkersScheduler, slots: int):
        self._scheduler, self._slots = scheduler, slots
        self._up: set[Any] = set()  # workers that have imported and prepared what they need
        self._held: dict[Any, float] = {}  # workers that measure nothing, and since when

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Tells the worker to hold before Tune calls its first step."""
        worker = worker_of(trial)
        if worker not in self._up or self._starting(trials):
            worker.hold.remote()

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        if "up" in result:
            worker = worker_of(trial)
            self._up.add(worker)
            self._held.setdefault(worker, time.monotonic())

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        if not self._held:
            return
        in_vain = time.monotonic() - min(self._held.values()) > PATIENCE
        if in_vain:
            self._slots = self._scheduler.workers
        if in_vain or not self._starting(trials):
            for worker in self._held:
                worker.begin.remote()
            self._held.clear()

    def _starting(self, trials: list[RayTrial]) -> bool:
        """Whether a trial that can have a worker has none that is up.

        A pending trial without any worker counts, since Tune takes moments to replace a worker that it cancelled.
        """
        self._slots = max(self._slots, self._scheduler.workers)
        live = [each for each in trials if each.status in (RayTrial.PENDING, RayTrial.RUNNING)]
        up = sum(worker_of(each) in self._up for each in live)
        return up < min(len(live), self._slots)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles callbacks into an experiment file that no one reads."""
        return {}
