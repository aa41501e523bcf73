"""The records that the callback writes, without Ray."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial as RayTrial

from search.records.states import State
from search.running import recorder as recorder_module
from search.running.recorder import Recorder

UP = {"up": True}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def trial_on(worker: object, trial_id: str = "a") -> Any:
    state = SimpleNamespace(ray_actor=worker)
    files = {"error_file": None, "pickled_error_file": None, "_default_result_or_future": object()}
    return SimpleNamespace(trial_id=trial_id, status=RayTrial.RUNNING, temporary_state=state, **files)


def test_tune_does_not_read_a_lost_worker_s_first_answer(searcher_of: Any) -> None:
    searcher = searcher_of(1)
    searcher.suggest("a")
    lost = trial_on(None)
    Recorder(searcher.records, searcher, lambda text: None).on_trial_error(0, [], lost)
    assert lost._default_result_or_future is None and searcher.records.trials[0].state is State.FAILED


def test_the_time_limit_counts_measuring_alone_and_kills_once(
    searcher_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, clock, worker = list[object](), Clock(), "worker"
    monkeypatch.setattr(recorder_module, "time", clock)
    monkeypatch.setattr(ray, "kill", killed.append)
    searcher = searcher_of(1, trial_timeout=10.0)
    recorder = Recorder(searcher.records, searcher, lambda text: None)

    def kills_at(seconds: float, trial: Any) -> bool:
        clock.now = seconds
        before = len(killed)
        recorder.on_step_begin(0, [trial])
        return len(killed) > before

    first = trial_on(worker)
    recorder.on_trial_start(0, [first], first)
    assert not kills_at(100, first)  # it imports and prepares
    recorder.on_trial_result(0, [first], first, UP)
    assert not kills_at(109, first)
    recorder.on_trial_result(0, [first], first, UP)  # it was held
    assert not kills_at(119, first)
    assert kills_at(120, first) and not kills_at(121, first)
    second = trial_on(worker, "b")  # on the worker that is up: it begins at once
    recorder.on_trial_start(0, [second], second)
    assert not kills_at(131, second) and kills_at(132, second)
