"""What Ray is given to run, and when: no Ray runs here."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.execution import tune_controller
from ray.tune.search import Searcher

from search.records import METRICS, Ending, Records, State
from search.running import searcher as feed_module
from search.running.plan import Plan
from search.running.searcher import Feed, Recorder, Workers
from search.running.worker import Fault, Kind, OverMemoryError
from search.spec import load

DIED, MEMORY = (Fault(kind, "why", "Traceback") for kind in (Kind.DIED, Kind.CROWDED))
RESULT = dict.fromkeys(METRICS, 0.25)


@pytest.fixture(autouse=True)
def workers_started(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans for which workers of the next phase were started."""
    started: list[Plan] = []
    monkeypatch.setattr(feed_module, "start_workers", started.append)
    return started


@pytest.fixture
def feed_of(tmp_path: Path) -> Any:
    def _feed_of(concurrency: int, **search: Any) -> Feed:
        file = tmp_path / "space.yaml"
        space = {"top_k": {"low": 2, "high": 500, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}}
        file.write_text(yaml.safe_dump({"space": space, "search": {"trials": 4, **search}}))
        return Feed(load(file), Records(tmp_path), Plan(concurrency, 1, 1, 0), lambda trial: None)

    return _feed_of


def end(feed: Feed, number: int, state: State = State.FINISHED) -> None:
    if state is State.FINISHED:
        feed.records.finished(number, RESULT, {})
    else:
        feed.records.ended(number, state, "why")
    feed.ended(number)


def test_what_may_have_to_be_tried_again_keeps_the_search_open(feed_of: Any, workers_started: list[Plan]) -> None:
    feed = feed_of(2, trials=2)
    first, second = feed.suggest("a"), feed.suggest("b")
    assert first["adapt"] != second["adapt"] and feed.suggest("c") is None
    end(feed, 0)
    assert feed.suggest("c") is None and len(workers_started) == 1
    assert feed.retry(1, DIED)
    assert feed.suggest("c") == second and feed.numbers["c"] == 1
    end(feed, 1)
    assert feed.suggest("d") == Searcher.FINISHED and feed.ending is Ending.COMPLETE and len(workers_started) == 1


def test_what_lacks_memory_waits_for_the_others_and_nothing_starts_beside_it(feed_of: Any) -> None:
    feed = feed_of(3)
    given = [feed.suggest(name) for name in "abc"]
    assert feed.retry(1, MEMORY)
    assert feed.suggest("d") is None  # two still run
    end(feed, 0)
    assert feed.suggest("d") is None
    end(feed, 2)
    assert feed.suggest("d") == given[1] and feed.suggest("e") is None
    assert not feed.retry(1, MEMORY)  # it was alone
    end(feed, 1, State.FAILED)
    assert feed.suggest("e")["adapt"] not in [each["adapt"] for each in given]


@pytest.mark.parametrize(("retries", "fault"), [(0, DIED), (2, Fault(Kind.ERROR, "why", ""))])
def test_what_is_not_tried_again(feed_of: Any, retries: int, fault: Fault) -> None:
    feed = feed_of(2, retries=retries)
    feed.suggest("a")
    assert not feed.retry(0, fault) and feed.records.trials[0].retries == 0


def test_attempts_are_counted_across_a_resume(feed_of: Any, tmp_path: Path) -> None:
    feed = feed_of(1, retries=1)
    feed.suggest("a")
    assert feed.retry(0, DIED)
    resumed = feed_of(1, retries=1)
    resumed.suggest("a")
    assert not resumed.retry(0, DIED)


def test_too_many_failures_in_a_row_end_it_attempts_do_not_count(feed_of: Any) -> None:
    feed = feed_of(1, max_failures_in_a_row=2, retries=5)
    feed.suggest("a")
    for name in "bcd":
        assert feed.retry(0, DIED) and feed.suggest(name)
    end(feed, 0, State.FAILED)
    assert feed.suggest("e")
    end(feed, 1, State.FAILED)
    assert feed.suggest("f") == Searcher.FINISHED and feed.ending is Ending.FAILING


@pytest.mark.parametrize("trials", [1, 3, 12])
def test_a_search_in_which_every_trial_failed_is_not_complete(feed_of: Any, trials: int) -> None:
    feed = feed_of(1, trials=trials, max_failures_in_a_row=20)
    for number in range(trials):
        feed.suggest(str(number))
        end(feed, number, State.FAILED)
    assert feed.suggest("last") == Searcher.FINISHED and feed.ending is Ending.ALL_FAILED


def test_one_finished_trial_makes_a_search_complete(feed_of: Any) -> None:
    feed = feed_of(1, trials=3)
    for number, state in enumerate((State.FAILED, State.FINISHED, State.FAILED)):
        feed.suggest(str(number))
        end(feed, number, state)
    assert feed.suggest("last") == Searcher.FINISHED and feed.ending is Ending.COMPLETE


def test_an_interrupted_search_is_so_even_if_its_other_trials_failed(feed_of: Any) -> None:
    feed = feed_of(2, trials=2)
    feed.suggest("a"), feed.suggest("b")
    end(feed, 0, State.FAILED)
    end(feed, 1, State.KILLED)
    assert feed.ending is Ending.INTERRUPTED


def test_a_trial_that_finishes_afterwards_does_not_undo_too_many_failures(feed_of: Any) -> None:
    feed = feed_of(2, max_failures_in_a_row=2)
    feed.suggest("slow"), feed.suggest("a")
    end(feed, 1, State.FAILED)
    feed.suggest("b")
    end(feed, 2, State.FAILED)
    end(feed, 0)
    assert feed.suggest("c") == Searcher.FINISHED and feed.ending is Ending.FAILING


def test_the_next_suggestion_is_drawn_while_all_slots_are_busy(feed_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = feed_of(2)
    feed.draw_ahead()
    assert feed._ahead is None  # a slot is free: it would be asked for in any case
    feed.suggest("a"), feed.suggest("b")
    feed.draw_ahead()
    drawn = feed._ahead
    assert drawn is not None
    monkeypatch.setattr(feed.suggestions, "ask", lambda recorded: pytest.fail("asked once more"))
    end(feed, 1)
    assert feed.suggest("c")["adapt"]["top_k"] == drawn["top_k"]


class Held:
    """A worker that is up, and how often it was told to begin."""

    def __init__(self) -> None:
        self.begun = 0
        self.begin = self

    def remote(self) -> None:
        self.begun += 1


def live(*workers: Held | None) -> list[Any]:
    """A trial per worker; those without one are pending."""
    states = ["RUNNING" if worker else "PENDING" for worker in workers]
    return [
        SimpleNamespace(trial_id=str(place), status=state, temporary_state=SimpleNamespace(ray_actor=worker))
        for place, (worker, state) in enumerate(zip(workers, states, strict=True))
    ]


def test_a_slot_that_does_not_come_is_waited_for_once(feed_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, worker, late = feed_of(2), Held(), Held()
    recorder = Recorder(feed.records, feed, lambda text: None)
    trials = live(worker, None)

    def step(workers: int, patience: float = 60.0) -> bool:
        """Whether the worker that reports is held back."""
        feed.workers, begun = workers, worker.begun
        monkeypatch.setattr(feed_module, "PATIENCE", patience)
        recorder.on_step_begin(0, trials)
        recorder.on_trial_result(0, trials, trials[0], {"up": True})
        recorder.on_step_end(0, trials)
        return worker.begun == begun

    assert step(1)
    assert not step(1, patience=-1.0) and not step(1)  # in vain, and not again
    assert step(2) and step(1)  # a node came: its worker starts, is dropped for one that is free, and comes again
    recorder.on_trial_result(0, trials, live(late)[0], {"up": True})
    trials[1].temporary_state.ray_actor = late
    assert not step(2)
    trials[1].temporary_state.ray_actor = None  # it died
    assert step(1)


def test_a_trial_waits_while_another_worker_starts(feed_of: Any) -> None:
    feed = feed_of(2)
    assert feed.suggest("a")["wait"] is False
    feed.starting = True
    assert feed.suggest("b")["wait"] is True


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (OutOfMemoryError("the node is full"), OverMemoryError),
        (RayError("something else"), RayActorError),
        (RayActorError(error_msg="it died"), RayActorError),
    ],
)
@pytest.mark.parametrize("while_it_starts", [True, False])
def test_whatever_ends_a_worker_is_its_death_for_tune(error: RayError, heard: type, while_it_starts: bool) -> None:
    """Tune itself takes other errors than a dead actor's for a mistake of its own, and ends the search."""
    assert tune_controller.RayActorManager is Workers
    manager, errors = Workers.__new__(Workers), []
    manager._failed_actor_ids, manager._cleanup_actor = set(), lambda tracked_actor: None
    worker = SimpleNamespace(actor_id=1, _on_error=lambda worker, error: errors.append(error))
    if while_it_starts:
        manager._actor_start_failed(worker, error)
    else:
        manager._actor_task_failed(SimpleNamespace(_tracked_actor=worker, _on_error=worker._on_error), error)
    assert {type(each) for each in errors} == {heard} and manager._failed_actor_ids == {1}
    assert str(pickle.loads(pickle.dumps(errors[0]))) == str(error)


def test_tune_does_not_read_what_a_lost_worker_was_asked_first(feed_of: Any) -> None:
    feed = feed_of(1)
    feed.suggest("a")
    lost = SimpleNamespace(trial_id="a", error_file=None, pickled_error_file=None, _default_result_or_future=object())
    Recorder(feed.records, feed, lambda text: None).on_trial_error(0, [], lost)
    assert lost._default_result_or_future is None and feed.records.trials[0].state is State.FAILED
