"""Attempts that fail: which are repeated, how often and beside which others; and that no worker is lost by them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import yaml
from failing import by_the_memory_monitor, folder_of, lines
from formula import Formula
from ray.exceptions import RayActorError

from search.records.records import Records
from search.records.states import Ending, State
from search.running import runner
from search.running.faults import OUT_OF_MEMORY
from search.running.plan import Plan
from search.running.suggest import Suggestions
from search.spec import Spec, load

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MOST = (0.3, 2.0)  # entropy quantiles of about two thirds of the trials, the published ones among them


def spec_of(folder: Path, **search: Any) -> Spec:
    """By TPE, whose first suggestions are drawn at random: tests know in which windows they lie."""
    space = {"top_k": {"low": 2, "high": 500, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}}
    file = folder / "space.yaml"
    file.write_text(
        yaml.safe_dump({"space": space, "search": {"trials": 6, "concurrency": 2, "sampler": "tpe", **search}})
    )
    return load(file)


def searched(folder: Path, plan: Plan, subject: Formula, **search: Any) -> tuple[Records, Ending, list[str]]:
    records, warnings = Records(folder), []
    spec = spec_of(folder, **search)
    ending = runner.run_search(spec, subject, records, plan, lambda trial: None, warnings.append)
    assert Records(folder).trials == records.trials
    return records, ending, warnings


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for line in lines(folder / "trials.jsonl") if (event := json.loads(line))["event"] == kind]


def test_a_trial_whose_worker_was_killed_is_tried_again(tmp_path: Path, plan: Plan) -> None:
    subject = Formula(kills=MOST, once=folder_of(tmp_path, "once"), log=tmp_path / "measured")
    records, ending, warnings = searched(tmp_path, plan, subject)
    assert ending is Ending.COMPLETE
    assert [trial.state for trial in records.trials.values()] == [State.FINISHED] * 6
    killed = [n for n, trial in records.trials.items() if trial.parameters["entropy_quantile"] > MOST[0]]
    assert killed and [n for n, trial in records.trials.items() if trial.retries == 1] == killed
    assert sorted(event["number"] for event in events(tmp_path, "retried")) == killed
    assert len(warnings) == len(killed) and all("is tried again: the worker process died" in text for text in warnings)
    assert len(lines(tmp_path / "measured")) == 6 + len(killed)

    suggestions = Suggestions(spec_of(tmp_path), 2)  # neither numbers nor suggestions know of the attempts
    for number, trial in sorted(records.trials.items()):
        assert suggestions.ask() == trial.parameters
        suggestions.tell(number, [trial.metrics["hr_at_10"], trial.metrics["filter_rate"]])


def test_a_trial_that_always_kills_its_worker_fails_after_its_retries(tmp_path: Path, plan: Plan) -> None:
    subject = Formula(kills=(0.49, 0.51), log=tmp_path / "measured")
    records, ending, _ = searched(tmp_path, plan, subject, trials=3, retries=1)
    assert ending is Ending.COMPLETE and records.trials[2].state is State.FINISHED
    for trial in (records.trials[0], records.trials[1]):  # the published points
        assert (trial.state, trial.retries) == (State.FAILED, 1)
        assert trial.error == "the worker process died (killed, or out of memory); attempt 2"
        assert "actor" in trial.traceback
    assert len(lines(tmp_path / "measured")) == 2 * 2 + 1


def test_a_trial_that_lacks_memory_beside_others_is_measured_alone(tmp_path: Path, plan: Plan) -> None:
    subject = Formula(memory=MOST, crowd=folder_of(tmp_path, "crowd"), sleep=0.5)
    records, ending, warnings = searched(tmp_path, plan, subject, max_failures_in_a_row=1)
    assert ending is Ending.COMPLETE and len(records.in_state(State.FINISHED)) == 6
    assert any("OutOfMemoryError: the formula was told to need all memory" in text for text in warnings)


def test_a_trial_that_lacks_memory_alone_fails_at_once(tmp_path: Path, plan: Plan) -> None:
    crowd = folder_of(tmp_path, "crowd")
    (crowd / "another program").touch()
    subject = Formula(memory=(0.49, 0.51), crowd=crowd, log=tmp_path / "measured")
    records, _, warnings = searched(tmp_path, Plan(1, 1, 1, 0), subject, trials=3, concurrency=1)
    assert [records.trials[number].state for number in range(3)] == ["FAILED", "FAILED", "FINISHED"]
    assert records.trials[0].error.startswith("OutOfMemoryError: ") and not warnings


@pytest.mark.parametrize("fits_alone", [True, False])
def test_a_trial_that_the_memory_monitor_ends_is_measured_alone(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, fits_alone: bool
) -> None:
    by_the_memory_monitor(monkeypatch, RayActorError)
    once = folder_of(tmp_path, "once") if fits_alone else None
    subject = Formula(kills=(0.49, 0.51), once=once, log=tmp_path / "measured")
    records, ending, warnings = searched(tmp_path, plan, subject, trials=4)
    assert ending is Ending.COMPLETE and len(records.in_state(State.FINISHED)) == (4 if fits_alone else 2)
    for trial in (records.trials[0], records.trials[1]):  # the published points
        assert trial.retries == 1
        assert trial.error == ("" if fits_alone else f"{OUT_OF_MEMORY}; attempt 2")
    assert len(lines(tmp_path / "measured")) == 2 * 2 + 2 and all(OUT_OF_MEMORY in text for text in warnings)


def test_exceptions_are_not_repeated_and_cost_no_worker(tmp_path: Path, plan: Plan) -> None:
    subject = Formula(fails=MOST, log=tmp_path / "measured", processes=tmp_path / "processes")
    records, ending, warnings = searched(tmp_path, plan, subject, trials=8)
    failed = records.in_state(State.FAILED)
    assert ending is Ending.ALL_FAILED and len(failed) == 8 and not warnings
    assert {trial.error for trial in failed} == {"RuntimeError: the formula was told to fail"}
    assert all("formula.py" in trial.traceback for trial in failed)
    assert len(lines(tmp_path / "measured")) == 8
    assert len({line.split()[0] for line in lines(tmp_path / "processes")}) <= 2


def test_a_worker_without_a_trial_measures_on_afterwards(tmp_path: Path, plan: Plan) -> None:
    """Trial 8 waits for the result of trial 5; both workers have no trial at that time."""
    subject = Formula(slow=(0.444, 0.446), slow_for=3.0, sleep=0.2, processes=tmp_path / "processes")
    records, _, _ = searched(tmp_path, plan, subject, trials=16)
    assert records.trials[7].ended < records.trials[5].ended - 1 and records.trials[5].ended <= records.trials[8].began
    processes = [line.split()[0] for line in lines(tmp_path / "processes")]
    assert len(set(processes)) == 2 and min(map(processes[-8:].count, set(processes))) >= 2


def test_a_worker_s_preparation_does_not_count_as_a_trial_s_time(tmp_path: Path, plan: Plan) -> None:
    records, ending, _ = searched(tmp_path, plan, Formula(prepares=6.0), trials=3, trial_timeout=3.0)
    assert ending is Ending.COMPLETE and len(records.in_state(State.FINISHED)) == 3


def test_a_killed_worker_is_replaced(tmp_path: Path, plan: Plan) -> None:
    """Trials shorter than a worker's start wait for it, or Tune would cancel it for an idle worker."""
    subject = Formula(
        kills=(0.444, 0.446), once=folder_of(tmp_path, "once"), sleep=0.4, processes=tmp_path / "processes"
    )
    records, _, _ = searched(tmp_path, plan, subject, trials=16)
    repeated = [number for number, trial in records.trials.items() if trial.retries]
    assert repeated == [5]  # while the other worker is busy
    processes = [line.split()[0] for line in lines(tmp_path / "processes")]
    assert len(set(processes[-8:])) == 2 and min(map(processes[-8:].count, set(processes[-8:]))) >= 2


def test_workers_that_cannot_exist_are_waited_for_once(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = 10.0
    monkeypatch.setattr("search.running.pacing.PATIENCE", patience)
    half = int(ray.cluster_resources()["CPU"]) // 2
    records, ending, _ = searched(tmp_path, Plan(3, 1, half, 0), Formula(sleep=0.2), trials=8)
    ends = [trial.ended for trial in records.trials.values()]
    assert ending is Ending.COMPLETE and max(ends) - min(ends) < patience


@pytest.mark.parametrize("again", [False, True])
def test_a_trial_that_a_failing_gpu_ended_is_measured_alone_by_another_process(
    tmp_path: Path, plan: Plan, again: bool
) -> None:
    """All trials that share the GPU lose their work, so one that always fails must not run beside them again."""
    once = None if again else folder_of(tmp_path, "once")
    subject = Formula(breaks=(0.49, 0.51), once=once)
    records, ending, warnings = searched(tmp_path, plan, subject, trials=4, max_failures_in_a_row=3)
    assert ending is Ending.COMPLETE and len(records.in_state(State.FINISHED)) == (2 if again else 4)
    assert [trial.retries for trial in records.trials.values()] == [1, 1, 0, 0]  # the published points
    reason = "DeviceError: CUDA error: unspecified launch failure"
    assert len(warnings) == 2 and all(text.endswith(f"is tried again: {reason}") for text in warnings)
    assert records.trials[0].error == (f"{reason}; attempt 2" if again else "")


def test_a_space_with_fewer_configurations_than_workers_is_complete_with_all(tmp_path: Path, plan: Plan) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"space": {"top_k": {"choices": [10, 50]}}, "search": {"trials": 9}}))
    records = Records(tmp_path)
    wide = Plan(concurrency=4, threads_per_trial=1, cpus_per_trial=0.25, gpus_per_trial=0)
    ending = runner.run_search(load(file), Formula(), records, wide, lambda trial: None)
    assert ending is Ending.COMPLETE
    assert [trial.parameters["top_k"] for trial in records.in_state(State.FINISHED)] == [10, 50]


def test_one_at_a_time_two_searches_are_the_same(tmp_path: Path, plan: Plan) -> None:
    alone = Plan(concurrency=1, threads_per_trial=1, cpus_per_trial=1, gpus_per_trial=0)
    tables = []
    for name in ("first", "second"):
        records, _, _ = searched(folder_of(tmp_path, name), alone, Formula(fails=(0.1, 0.3)), trials=16, concurrency=1)
        tables.append(records.table().drop(columns=["mlflow_run_id"]))
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert set(tables[0].state) == {"FINISHED", "FAILED"}
