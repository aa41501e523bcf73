"""MLflow is a complete copy of the records without repeats, and never delays a trial. The stores are real files."""

from pathlib import Path

from made_up_store import CURVE, PARAMETERS, RESULT, Store, close, fill, tracker, until

from search.records.records import Records
from search.records.states import State


def test_a_search_is_one_parent_with_a_child_per_trial(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    records.write_table()
    assert close(tracker(records), State.KILLED, ("trial-0000",), tmp_path / "out")
    parent, children = store.parent(), store.children()
    assert parent.info.status == "KILLED" and parent.data.metrics == {"hypervolume": 0.4}
    assert parent.data.params == {name: "null" if value is None else str(value) for name, value in PARAMETERS.items()}
    assert {a.path for a in store.client.list_artifacts(parent.info.run_id)} == {"trials.csv", "trials.jsonl"}
    states = {name: run.info.status for name, run in children.items()}
    assert states == {trial.trial_id: str(trial.state) for trial in records.trials.values()}
    assert children["trial-0001"].data.params == {"top_k": "null", "admit": "confident"}
    assert children["trial-0001"].data.tags["error"] == "NotFiniteError: seconds is nan"
    assert "Traceback" in children["trial-0001"].data.tags["traceback"]
    assert records.parent_run_id == parent.info.run_id
    assert {t.trial_id: t.mlflow_run_id for t in records.trials.values()} == {
        name: run.info.run_id for name, run in children.items()
    }


def test_a_finished_trial_has_its_metrics_and_its_curve_by_samples_served(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), front=("trial-0000",))
    children = store.children()
    run = children["trial-0000"]
    assert run.data.metrics.items() >= {**RESULT, **{f"test_{name}": value for name, value in RESULT.items()}}.items()
    assert store.history(run, "stream_hr_at_10") == [(100, 0.25), (200, 0.5)]
    assert store.history(run, "stream_filter_rate") == [(100, 0.0), (200, 1.0)]
    assert "stream_samples" not in run.data.metrics
    assert [name for name, one in children.items() if "pareto" in one.data.tags] == ["trial-0000"]
    assert run.data.tags["pareto"] == "true"


def test_the_store_follows_while_the_search_runs(records: Records, store: Store) -> None:
    one = tracker(records)
    records.started(0, {"top_k": 50})
    one.update()
    until(lambda: records.trials[0].mlflow_run_id != "")
    until(lambda: store.children()["trial-0000"].data.params == {"top_k": "50"})
    assert store.children()["trial-0000"].info.status == store.parent().info.status == "RUNNING"
    records.finished(0, RESULT, CURVE)
    one.update()
    until(lambda: store.children()["trial-0000"].info.status == "FINISHED")
    assert close(one)


def test_runs_are_found_again_where_the_journal_has_not_heard_of_them(
    records: Records, store: Store, tmp_path: Path
) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    before = {name: run.info.run_id for name, run in store.children().items()}
    ended = {name: run.info.end_time for name, run in store.children().items()}
    journal = tmp_path / "out/trials.jsonl"
    heard = [line for line in journal.read_text().splitlines(keepends=True) if "tracked" not in line]
    journal.write_text("".join(heard))
    again = Records(tmp_path / "out")
    assert again.parent_run_id == again.trials[0].mlflow_run_id == ""
    again.finished(3, RESULT, CURVE)
    assert close(tracker(again))
    children = store.children()
    assert {name: run.info.run_id for name, run in children.items()} == before
    assert {t.trial_id: t.mlflow_run_id for t in again.trials.values()} == before
    assert store.parent().info.status == "FINISHED" and store.parent().info.run_id == again.parent_run_id
    assert store.history(children["trial-0000"], "stream_hr_at_10") == [(100, 0.25), (200, 0.5)]  # not twice
    assert children["trial-0000"].info.end_time == ended["trial-0000"]
    assert children["trial-0003"].info.status == "FINISHED"


def test_a_trial_that_was_killed_starts_again_in_its_run(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    again = Records(tmp_path / "out")
    again.started(2, again.trials[2].parameters)
    one = tracker(again)
    until(lambda: store.children()["trial-0002"].info.status == "RUNNING")
    assert store.parent().info.status == "RUNNING"
    again.ended(2, State.KILLED, "again")
    one.update()
    until(lambda: store.children()["trial-0002"].info.status == "KILLED")
    again.started(2, again.trials[2].parameters)
    again.finished(2, RESULT, CURVE)
    assert close(one)
    run = store.children()["trial-0002"]
    assert run.info.status == "FINISHED" and run.data.metrics["hr_at_10"] == 0.25 and "error" not in run.data.tags


def test_marks_of_an_earlier_front_go(records: Records, store: Store, tmp_path: Path) -> None:
    fill(records)
    records.finished(3, RESULT, CURVE)
    assert close(tracker(records), front=("trial-0000", "trial-0003"))
    assert close(tracker(Records(tmp_path / "out")), front=("trial-0003",))
    assert [name for name, run in store.children().items() if "pareto" in run.data.tags] == ["trial-0003"]


def test_a_search_is_found_in_an_experiment_that_was_renamed(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    identifier = store.parent().info.experiment_id
    store.client.rename_experiment(identifier, "renamed")
    assert close(tracker(Records(records.directory)))
    assert store.client.get_experiment_by_name("made-up") is None
    assert len(store.client.search_runs([identifier])) == 5


def test_a_run_that_the_records_know_nothing_of_is_closed(records: Records, store: Store) -> None:
    fill(records)
    assert close(tracker(records), State.KILLED)
    tags = {"mlflow.parentRunId": records.parent_run_id, "trial_id": "trial-0077"}
    store.client.create_run(store.parent().info.experiment_id, tags=tags)
    assert close(tracker(Records(records.directory)))
    assert store.children()["trial-0077"].info.status == "KILLED"


def test_texts_that_no_store_takes_are_shortened(records: Records, store: Store) -> None:
    records.started(0, {"top_k": 1})
    records.ended(0, State.FAILED, "a \0 b", "x" * 20000)
    assert close(tracker(records))
    tags = store.children()["trial-0000"].data.tags
    assert tags["error"] == "a  b" and len(tags["traceback"]) == 5000


def test_a_clock_that_goes_back_ends_no_run_before_its_start(records: Records, store: Store) -> None:
    fill(records)
    for trial in records.trials.values():
        trial.began = 4e9  # in 2096; the ends are of today
    assert close(tracker(records), State.KILLED)
    for run in (store.parent(), *store.children().values()):
        assert run.info.end_time is None or run.info.end_time >= run.info.start_time == 4_000_000_000_000
    assert sum(run.info.end_time is not None for run in store.children().values()) == 3
