"""The verdict counts every kind of damage: each is made by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.records.records import Records
from search.records.states import State
from search.records.trials_table import METRICS
from search.running.suggest import Suggestions
from search.spec import Spec
from tests.faults import verdict
from tests.faults.program import spec_of

TRIALS = 4


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Path, Spec]:
    """The folder and the spec of a finished search without faults."""
    spec, records = spec_of(tmp_path, TRIALS), Records(tmp_path)
    records.begin({})
    records.parent_tracked("parent")
    suggestions = Suggestions(spec, 2)
    for number in range(TRIALS):
        parameters = suggestions.ask()
        assert parameters is not None
        records.started(number, parameters)
        records.tracked(number, f"run-{number}")
        records.finished(number, dict.fromkeys(METRICS, 0.25 + number / 100), {})
        suggestions.tell(number, [0.25 + number / 100] * 2)
    records.write_table()
    return tmp_path, spec


def store_of(directory: Path, change: Callable[[list[Any]], Any] = lambda runs: None) -> Any:
    """A stand-in for MLflow's client that has one run per trial of the records, after `change`."""
    records = Records(directory)
    parent = SimpleNamespace(
        info=SimpleNamespace(run_id="parent", status="FINISHED"),
        data=SimpleNamespace(tags={"etarec.search": records.identity}, metrics={}),
    )
    runs = [parent] + [
        SimpleNamespace(
            info=SimpleNamespace(run_id=trial.mlflow_run_id, status=str(trial.state)),
            data=SimpleNamespace(
                tags={"mlflow.parentRunId": "parent", "trial_id": trial.trial_id}, metrics=dict(trial.metrics)
            ),
        )
        for trial in records.trials.values()
    ]
    change(runs)
    return SimpleNamespace(
        get_experiment_by_name=lambda name: SimpleNamespace(experiment_id="1"),
        search_runs=lambda experiments, max_results: runs,
    )


def test_a_search_without_faults_has_an_empty_verdict(searched: tuple[Path, Spec]) -> None:
    directory, spec = searched
    assert not verdict.after_search(directory, spec, store_of(directory), 2)
    assert not verdict.after_kill(directory, verdict.ended_trials(directory))


def rewrite(journal: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    change(events)
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_an_end_missing_from_the_journal_is_lost(searched: tuple[Path, Spec]) -> None:
    directory, spec = searched
    before = verdict.ended_trials(directory)
    rewrite(directory / "trials.jsonl", lambda events: events.pop())
    assert verdict.after_kill(directory, before).lost == ["trial-0003: its end is no longer in the journal"]
    assert verdict.after_search(directory, spec, store_of(directory), 2).lost == ["trial 3: no end in the journal"]


def test_a_trial_measured_twice_is_duplicated(searched: tuple[Path, Spec]) -> None:
    directory, _ = searched
    records = Records(directory)
    records.started(1, records.trials[1].parameters)
    records.finished(1, records.trials[0].metrics, {})
    records.started(4, records.trials[0].parameters)
    found = verdict.after_kill(directory, {}).duplicated
    assert found == [
        "trial 1: started after its end",
        "trial 1: ended after its end",
        "trials 0 and 4: the same configuration",
    ]


def test_a_table_with_other_numbers_disagrees(searched: tuple[Path, Spec]) -> None:
    directory, spec = searched
    table = directory / "trials.csv"
    table.write_text(table.read_text().replace("0.27", "0.28").replace("trial-0001,FINISHED", "trial-0001,FAILED"))
    found = verdict.after_search(directory, spec, store_of(directory), 2)
    assert found.disagreeing == [f"trial-000{n}: trials.csv differs from the journal" for n in (1, 2)]


def test_a_study_that_suggests_otherwise_disagrees(searched: tuple[Path, Spec]) -> None:
    directory, spec = searched

    def other(events: list[dict[str, Any]]) -> None:
        events[-3]["parameters"]["top_k"] += 1

    rewrite(directory / "trials.jsonl", other)
    Records(directory).write_table()
    found = verdict.after_search(directory, spec, store_of(directory), 2)
    assert found.disagreeing == ["trial-0003: the study suggests another configuration"]


def test_damaged_runs_in_mlflow_are_found(searched: tuple[Path, Spec]) -> None:
    directory, spec = searched

    def damage(runs: list[Any]) -> None:
        runs[1].info.status = str(State.RUNNING)
        runs[2].data.metrics["hr_at_10"] = 0.9
        runs[3] = runs[4]
        runs[0].info.status = "KILLED"

    found = verdict.after_search(directory, spec, store_of(directory, damage), 2)
    assert found.lost == ["trial-0002: no run in MLflow"]
    assert found.duplicated == ["several runs of one trial"]
    assert found.disagreeing == [
        "the parent run is not the one of the journal, or not FINISHED",
        "trial-0000: RUNNING in MLflow, FINISHED in the journal",
        "trial-0001: other numbers in MLflow",
    ]
