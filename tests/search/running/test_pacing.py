"""How workers are held, without Ray; and that this Ray has the private parts on which pacing.py leans."""

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.callback import Callback
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.utils.object_cache import _ObjectCache

from search.running import pacing
from search.running.faults import OverMemoryError
from search.running.pacing import ActorManager, IdleWorkersScheduler, Pacing, tolerant_actor_manager

RUNNING = Path(__file__).parents[3] / "search" / "running"


class Worker:
    """A worker's handle, and whether it was told to hold or to begin."""

    def __init__(self) -> None:
        self.held = False
        self.hold, self.begin = (SimpleNamespace(remote=lambda held=held: self.tell(held)) for held in (True, False))

    def tell(self, held: bool) -> None:
        self.held = held


def live(*workers: Worker | None) -> list[Any]:
    """A trial per worker; a trial without one is pending."""
    states = [RayTrial.RUNNING if worker else RayTrial.PENDING for worker in workers]
    return [
        SimpleNamespace(trial_id=str(place), status=state, temporary_state=SimpleNamespace(ray_actor=worker))
        for place, (worker, state) in enumerate(zip(workers, states, strict=True))
    ]


def comes_up(paced: Pacing, trials: list[Any], place: int) -> None:
    """The worker's trial starts, and its first step says that it is prepared."""
    paced.on_trial_start(0, trials, trials[place])
    paced.on_trial_result(0, trials, trials[place], {"up": True})
    paced.on_step_end(0, trials)


def pacing_of(searcher_of: Any, slots: int) -> tuple[IdleWorkersScheduler, Pacing]:
    scheduler = IdleWorkersScheduler(searcher_of(slots))
    return scheduler, Pacing(scheduler, slots)


def test_workers_are_held_until_all_are_up(searcher_of: Any) -> None:
    _, paced = pacing_of(searcher_of, 2)
    early, late = Worker(), Worker()
    trials = live(early, None)
    comes_up(paced, trials, 0)
    assert early.held
    trials = live(early, late)
    comes_up(paced, trials, 1)
    assert not early.held and not late.held


def test_a_worker_that_is_up_is_held_only_while_another_one_starts(searcher_of: Any) -> None:
    _, paced = pacing_of(searcher_of, 2)
    early, late = Worker(), Worker()
    trials = live(early, late)
    comes_up(paced, trials, 0)
    comes_up(paced, trials, 1)
    paced.on_trial_start(0, trials, trials[0])  # its next trial
    assert not early.held
    trials = live(early, None)  # the other one died
    paced.on_trial_start(0, trials, trials[0])
    assert early.held


def test_a_worker_that_does_not_come_is_waited_for_once(searcher_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, paced = pacing_of(searcher_of, 2)
    worker, late = Worker(), Worker()
    trials = live(worker, None)

    def holds(workers: int, patience: float = 60.0) -> bool:
        """Whether the first worker is held in a step that sees so many workers with resources."""
        scheduler.workers = workers
        monkeypatch.setattr(pacing, "PATIENCE", patience)
        comes_up(paced, trials, 0)
        return worker.held

    assert holds(1)
    assert not holds(1, patience=-1.0) and not holds(1)  # in vain, and not again
    assert holds(2) and holds(1)  # a node came: its worker starts, is cancelled for an idle one, and starts again
    comes_up(paced, live(worker, late), 1)
    trials[1].temporary_state.ray_actor = late
    assert not holds(2)
    trials[1].temporary_state.ray_actor = None  # it died
    assert holds(1)


def controller(searcher_of: Any, workers: int) -> Any:
    """The parts of Tune's controller that the scheduler reads."""
    cache = _ObjectCache()
    trials = [SimpleNamespace(placement_group_factory="one core", status=RayTrial.PENDING)]
    inner = SimpleNamespace(
        _actor_manager=SimpleNamespace(num_live_actors=workers), _actor_cache=cache, get_trials=lambda: trials
    )
    return SimpleNamespace(_tune_controller=inner, get_trials=inner.get_trials)


def test_the_scheduler_names_the_first_pending_trial_and_keeps_idle_workers(searcher_of: Any) -> None:
    searcher = searcher_of(3)
    scheduler, wrapped = IdleWorkersScheduler(searcher), controller(searcher_of, workers=2)
    cache = wrapped._tune_controller._actor_cache
    for _ in range(2):
        assert scheduler.choose_trial_to_run(wrapped) is wrapped.get_trials()[0]
        assert scheduler.workers == 2 and cache.total_max_objects == 3
    searcher._measures_next = True  # no trial will come
    scheduler.choose_trial_to_run(wrapped)
    assert cache.total_max_objects == 0


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (OutOfMemoryError("the node is full"), OverMemoryError),
        (RayError("something else"), RayActorError),
        (RayActorError(error_msg="it died"), RayActorError),
    ],
)
@pytest.mark.parametrize("while_it_starts", [True, False])
def test_any_end_of_a_worker_is_its_death_for_tune(error: RayError, heard: type, while_it_starts: bool) -> None:
    """Tune takes an error that is neither a dead actor's nor a task's for its own mistake, and ends the search."""
    manager, errors = ActorManager.__new__(ActorManager), []
    manager._failed_actor_ids, manager._cleanup_actor = set(), lambda tracked_actor: None
    worker = SimpleNamespace(actor_id=1, _on_error=lambda worker, error: errors.append(error))
    if while_it_starts:
        manager._actor_start_failed(worker, error)
    else:
        manager._actor_task_failed(SimpleNamespace(_tracked_actor=worker, _on_error=worker._on_error), error)
    assert {type(each) for each in errors} == {heard} and manager._failed_actor_ids == {1}
    assert str(pickle.loads(pickle.dumps(errors[0]))) == str(error)


def test_tune_uses_the_tolerant_manager_during_a_search_only() -> None:
    with tolerant_actor_manager():
        assert tune_controller.RayActorManager is ActorManager
    assert tune_controller.RayActorManager is RayActorManager


def test_what_ray_pickles_holds_no_records(searcher_of: Any) -> None:
    scheduler, paced = pacing_of(searcher_of, 2)
    for each in (scheduler, paced):
        assert vars(pickle.loads(pickle.dumps(each))) == {}


def sets(function: Callable[..., Any], name: str) -> bool:
    """Whether a function's code names an attribute or a global."""
    return name in function.__code__.co_names


def takes(function: Callable[..., Any], *names: str) -> bool:
    """Whether the arguments of a function are these, without `self`."""
    return tuple(inspect.signature(function).parameters)[1:] == names


def ray_trial() -> RayTrial:
    return RayTrial("a trainable", stub=True)


CALLBACK = ("iteration", "trials", "trial", "result", "info")
USED = {  # a part of Ray Tune -> whether this Ray has it
    "TuneController uses the module's RayActorManager": lambda: sets(TuneController.__init__, "RayActorManager"),
    "RayActorManager._actor_start_failed(tracked_actor, exception)": lambda: takes(
        RayActorManager._actor_start_failed, "tracked_actor", "exception"
    ),
    "RayActorManager._actor_task_failed(tracked_actor_task, exception)": lambda: takes(
        RayActorManager._actor_task_failed, "tracked_actor_task", "exception"
    ),
    "RayActorManager.num_live_actors": lambda: isinstance(RayActorManager.num_live_actors, property),
    "TuneController._actor_manager": lambda: sets(TuneController.__init__, "_actor_manager"),
    "TuneController._actor_cache": lambda: sets(TuneController.__init__, "_actor_cache"),
    "TuneController.get_trials()": lambda: takes(TuneController.get_trials),
    "TuneController asks the scheduler": lambda: sets(TuneController._maybe_add_actors, "choose_trial_to_run"),
    "TrialRunnerWrapper._tune_controller": lambda: sets(TrialRunnerWrapper.__init__, "_tune_controller"),
    "_ObjectCache.increase_max(key, by)": lambda: takes(_ObjectCache.increase_max, "key", "by"),
    "FIFOScheduler.choose_trial_to_run(tune_controller)": lambda: takes(
        FIFOScheduler.choose_trial_to_run, "tune_controller"
    ),
    "Callback.on_trial_start": lambda: takes(Callback.on_trial_start, "iteration", "trials", "trial", "info"),
    "Callback.on_trial_result": lambda: takes(Callback.on_trial_result, *CALLBACK),
    "Callback.on_step_end": lambda: takes(Callback.on_step_end, "iteration", "trials", "info"),
    "Trial.placement_group_factory": lambda: hasattr(ray_trial(), "placement_group_factory"),
    "Trial.temporary_state.ray_actor": lambda: hasattr(ray_trial().temporary_state, "ray_actor"),
    "Trial._default_result_or_future": lambda: hasattr(ray_trial(), "_default_result_or_future"),
}


@pytest.mark.parametrize("part", USED)
def test_this_ray_has_what_pacing_uses(part: str) -> None:
    try:
        there = USED[part]()
    except AttributeError:
        there = False
    assert there, f"Ray {ray.__version__} lacks what search/running/pacing.py uses: {part}"


@pytest.mark.parametrize(
    "private",
    ["._internal", ".tune.execution", "._actor_", "temporary_state", "_default_result_or_future", "RayActorManager"],
)
def test_pacing_alone_leans_on_private_parts(private: str) -> None:
    assert [file.name for file in RUNNING.glob("*.py") if private in file.read_text()] == ["pacing.py"]
