"""Which trial comes next, without Ray."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.records.records import Records
from search.records.states import Ending, State
from search.records.trials_table import METRICS
from search.running import searcher as searcher_module
from search.running.faults import Fault, Kind
from search.running.plan import Plan
from search.running.searcher import JournalSearcher

DIED, MEMORY = (Fault(kind, "why", "Traceback") for kind in (Kind.DIED, Kind.CROWDED))
RESULT = dict.fromkeys(METRICS, 0.25)


def end(searcher: JournalSearcher, number: int, state: State = State.FINISHED) -> None:
    if state is State.FINISHED:
        searcher.records.finished(number, RESULT, {})
    else:
        searcher.records.ended(number, state, "why")
    searcher.ended(number)


def test_a_trial_that_may_be_repeated_keeps_the_search_open(searcher_of: Any, processes_started: list[Plan]) -> None:
    searcher = searcher_of(2, trials=2)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert first["adapt"] != second["adapt"] and searcher.suggest("c") is None
    end(searcher, 0)
    assert searcher.suggest("c") is None and len(processes_started) == 1
    assert searcher.retry(1, DIED)
    assert searcher.suggest("c") == second and searcher.numbers["c"] == 1
    end(searcher, 1)
    assert searcher.suggest("d") == Searcher.FINISHED and searcher.ending is Ending.COMPLETE
    assert len(processes_started) == 1


def test_a_trial_that_lacks_memory_waits_for_the_others_and_runs_alone(searcher_of: Any) -> None:
    searcher = searcher_of(3)
    given = [searcher.suggest(name) for name in "abc"]
    assert searcher.retry(1, MEMORY)
    assert searcher.suggest("d") is None  # two still run
    end(searcher, 0)
    assert searcher.suggest("d") is None
    end(searcher, 2)
    assert searcher.suggest("d") == given[1] and searcher.suggest("e") is None
    assert not searcher.retry(1, MEMORY)  # it was alone
    end(searcher, 1, State.FAILED)
    assert searcher.suggest("e")["adapt"] not in [each["adapt"] for each in given]


@pytest.mark.parametrize(("retries", "fault"), [(0, DIED), (2, Fault(Kind.ERROR, "why", ""))])
def test_a_fault_that_is_not_transient_or_without_retries_is_final(
    searcher_of: Any, retries: int, fault: Fault
) -> None:
    searcher = searcher_of(2, retries=retries)
    searcher.suggest("a")
    assert not searcher.retry(0, fault) and searcher.records.trials[0].retries == 0


def test_attempts_are_counted_across_a_resume(searcher_of: Any, tmp_path: Path) -> None:
    searcher = searcher_of(1, retries=1)
    searcher.suggest("a")
    assert searcher.retry(0, DIED)
    resumed = searcher_of(1, retries=1)
    resumed.suggest("a")
    assert not resumed.retry(0, DIED)


def test_too_many_failures_in_a_row_end_it_attempts_do_not_count(searcher_of: Any) -> None:
    searcher = searcher_of(1, max_failures_in_a_row=2, retries=5)
    searcher.suggest("a")
    for name in "bcd":
        assert searcher.retry(0, DIED) and searcher.suggest(name)
    end(searcher, 0, State.FAILED)
    assert searcher.suggest("e")
    end(searcher, 1, State.FAILED)
    assert searcher.suggest("f") == Searcher.FINISHED and searcher.ending is Ending.FAILING


@pytest.mark.parametrize("trials", [1, 3, 12])
def test_a_search_in_which_every_trial_failed_is_not_complete(searcher_of: Any, trials: int) -> None:
    searcher = searcher_of(1, trials=trials, max_failures_in_a_row=20)
    for number in range(trials):
        searcher.suggest(str(number))
        end(searcher, number, State.FAILED)
    assert searcher.suggest("last") == Searcher.FINISHED and searcher.ending is Ending.ALL_FAILED


def test_one_finished_trial_makes_a_search_complete(searcher_of: Any) -> None:
    searcher = searcher_of(1, trials=3)
    for number, state in enumerate((State.FAILED, State.FINISHED, State.FAILED)):
        searcher.suggest(str(number))
        end(searcher, number, state)
    assert searcher.suggest("last") == Searcher.FINISHED and searcher.ending is Ending.COMPLETE


def test_an_interrupted_search_is_so_even_if_its_other_trials_failed(searcher_of: Any) -> None:
    searcher = searcher_of(2, trials=2)
    searcher.suggest("a"), searcher.suggest("b")
    end(searcher, 0, State.FAILED)
    end(searcher, 1, State.KILLED)
    assert searcher.ending is Ending.INTERRUPTED


def test_a_trial_that_finishes_afterwards_does_not_undo_too_many_failures(searcher_of: Any) -> None:
    searcher = searcher_of(2, max_failures_in_a_row=2)
    searcher.suggest("slow"), searcher.suggest("a")
    end(searcher, 1, State.FAILED)
    searcher.suggest("b")
    end(searcher, 2, State.FAILED)
    end(searcher, 0)
    assert searcher.suggest("c") == Searcher.FINISHED and searcher.ending is Ending.FAILING


def test_the_next_suggestion_is_drawn_while_all_workers_are_busy(
    searcher_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = searcher_of(2)
    searcher.draw_ahead()
    assert searcher._ahead is None  # a worker is free, so the suggestion is asked for in any case
    searcher.suggest("a"), searcher.suggest("b")
    searcher.draw_ahead()
    drawn = searcher._ahead
    assert drawn is not None
    monkeypatch.setattr(searcher.suggestions, "ask", lambda recorded: pytest.fail("asked once more"))
    end(searcher, 1)
    assert searcher.suggest("c")["adapt"]["top_k"] == drawn["top_k"]


def test_a_configuration_that_cannot_be_built_is_a_failed_trial(
    searcher_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, build = searcher_of(1, trials=3), searcher_module.trial_config

    def refusing(spec: Any, parameters: dict[str, Any]) -> Any:
        if len(searcher.records.trials) == 2:  # the second is the one that has just been started
            raise ValueError("they do not fit")
        return build(spec, parameters)

    monkeypatch.setattr(searcher_module, "trial_config", refusing)
    searcher.suggest("a")
    end(searcher, 0)
    assert searcher.suggest("b")["seed"] and searcher.numbers["b"] == 2
    failed = searcher.records.trials[1]
    assert failed.state is State.FAILED and failed.error == "no such configuration: they do not fit"
    assert "Traceback" in failed.traceback
    end(searcher, 2)
    assert searcher.suggest("c") == Searcher.FINISHED and searcher.ending is Ending.COMPLETE
    resumed = searcher_of(1, trials=3)
    assert resumed.suggest("a") == Searcher.FINISHED


def test_configurations_that_cannot_be_built_count_as_failures_in_a_row(
    searcher_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(spec: Any, parameters: dict[str, Any]) -> Any:
        raise ValueError("never")

    searcher = searcher_of(2, max_failures_in_a_row=3)
    monkeypatch.setattr(searcher_module, "trial_config", refusing)
    assert searcher.suggest("a") is None and searcher.suggest("a") == Searcher.FINISHED
    assert searcher.ending is Ending.FAILING and len(searcher.records.in_state(State.FAILED)) == 3


def test_a_pruned_trial_is_an_end_without_a_result_and_no_failure(searcher_of: Any, tmp_path: Path) -> None:
    searcher = searcher_of(1, trials=3, max_failures_in_a_row=1)
    for number in range(3):
        assert isinstance(searcher.suggest(f"ray-{number}"), dict)
        searcher.records.ended(number, State.PRUNED, "none is better")
        searcher.ended(number)
    assert searcher.suggest("ray-3") == "FINISHED" and searcher.ending is Ending.COMPLETE
    searcher.suggestions.tell_rest()
    assert [trial.state.name for trial in searcher.suggestions.study.trials] == ["PRUNED"] * 3
    resumed = searcher_of(1, trials=3)
    assert resumed.suggest("ray-4") == "FINISHED" and len(Records(tmp_path).in_state(State.PRUNED)) == 3


def test_no_trial_begins_after_the_time_is_up(searcher_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = searcher_of(1, max_minutes=2)
    assert isinstance(searcher.suggest("ray-0"), dict)
    began = searcher_module.time.monotonic()
    monkeypatch.setattr(searcher_module.time, "monotonic", lambda: began + 121)
    end(searcher, 0)
    assert searcher.suggest("ray-1") == "FINISHED" and searcher.ending is Ending.OUT_OF_TIME
    assert searcher.ending.whole and searcher.ending.exit_status == 0


def test_a_search_that_has_converged_is_whole(searcher_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = searcher_of(1, until="converged")
    assert isinstance(searcher.suggest("ray-0"), dict)
    end(searcher, 0)
    monkeypatch.setattr(searcher.suggestions, "_has_converged", lambda parameters: True)
    assert searcher.suggest("ray-1") == "FINISHED" and searcher.ending is Ending.CONVERGED
