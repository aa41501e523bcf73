"""Runs of an experiment: one is kept of several, and a run is completed once. The store is a real file."""

import pytest
from made_up_store import Store
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from search.records.states import State
from search.track.runs import Runs
from search.track.wanted import Wanted


@pytest.fixture
def answers() -> list[bool]:
    return []


@pytest.fixture
def runs(store: Store, answers: list[bool]) -> Runs:
    return Runs(store.client, store.client.create_experiment("made-up"), answers.append)


def test_the_known_one_of_several_runs_is_kept_else_the_oldest(runs: Runs) -> None:
    oldest, known, last = (runs.create("one", {"search": "a"}, began).run_id for began in (1.0, 2.0, 3.0))
    child = runs.create("child", {MLFLOW_PARENT_RUN_ID: last}, 4.0)
    kept = runs.only(runs.tagged("search", "a"), known)
    assert kept is not None and kept.run_id == known
    assert [run.info.run_id for run in runs.tagged("search", "a")] == [known]
    assert runs.tagged(MLFLOW_PARENT_RUN_ID, last) == []  # the child of a run that was deleted is deleted with it
    for deleted in (oldest, child.run_id):
        runs.client.restore_run(deleted)
    first = runs.only(runs.tagged("search", "a"), "unknown")
    assert first is not None and first.run_id == oldest
    assert runs.only([], known) is None


def test_a_run_is_completed_once_and_each_request_is_answered(runs: Runs, answers: list[bool]) -> None:
    copy = runs.create("one", {"pareto": "true"}, 5.0)
    answers.clear()
    wanted = Wanted(State.FINISHED, {"top_k": 5}, unwanted=("pareto",), end=9.0)
    assert runs.complete(copy, wanted) and answers == [True] * 3
    assert not runs.complete(copy, wanted) and answers == [True] * 3
    run = runs.client.get_run(copy.run_id)
    assert (run.info.status, run.info.end_time, run.data.params) == ("FINISHED", 9000, {"top_k": "5"})
    assert "pareto" not in run.data.tags


def test_a_child_moves_to_another_parent(runs: Runs) -> None:
    child = runs.create("child", {MLFLOW_PARENT_RUN_ID: "former"}, 1.0)
    runs.move(child.run_id, "new")
    assert [run.info.run_id for run in runs.tagged(MLFLOW_PARENT_RUN_ID, "new")] == [child.run_id]
