"""The journal: what counts, what a crash may leave behind, and the table made from it."""

from pathlib import Path

import pandas as pd
import pytest

from etarec.config import UserError
from etarec.disk import write_whole
from search.records import METRICS, Anchor, Records, State, Trial, trial_id, without_idle_columns

RESULT = dict.fromkeys(METRICS, 0.25) | {"filtered_by_seen": 0.0, "filtered_by_chance": 0.0}
SETTINGS = {"search.seed": 0, "data.sha256": "a"}
CURVE = {"samples": [1.0, 2.0], "hr_at_10": [0.0, 1.0]}


def filled(directory: Path) -> Records:
    """Four trials, one in each state."""
    records = Records(directory)
    records.begin(SETTINGS)
    for number, top_k in enumerate((50, None, 7, 10)):
        records.started(number, {"top_k": top_k, "cosine_threshold": 0.3})
    records.finished(0, RESULT, CURVE)
    records.ended(1, State.FAILED, "NotFiniteError: seconds is nan", "Traceback ...\nNotFiniteError")
    records.ended(2, State.KILLED, "the search was interrupted")
    records.tracked(0, "run-0")
    records.parent_tracked("parent")
    return records


def test_the_journal_replays_to_the_same_records(tmp_path: Path) -> None:
    written, read = filled(tmp_path), Records(tmp_path)
    assert read.trials == written.trials
    assert (read.identity, read.parent_run_id) == (written.identity, "parent")
    assert read.trials[0] == Trial(
        0, {"top_k": 50, "cosine_threshold": 0.3}, State.FINISHED, RESULT, CURVE, mlflow_run_id="run-0"
    )
    assert read.trials[1].error.startswith("NotFiniteError") and "\n" in read.trials[1].traceback


def test_a_search_that_goes_on_keeps_its_identity(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    identity = filled(tmp_path).identity
    again = Records(tmp_path)
    again.begin(SETTINGS)
    other = Records(tmp_path / "other")
    other.begin(SETTINGS)
    assert again.identity == identity and other.identity not in ("", identity)


def test_a_search_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    filled(tmp_path)
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"data\.sha256: was a, now b; search\.concurrency: was None, now 2$"):
        Records(tmp_path).begin(SETTINGS | {"data.sha256": "b", "search.concurrency": 2})
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_change_of_code_names_the_files_and_can_be_accepted(tmp_path: Path) -> None:
    before = SETTINGS | {"code": {"etarec/gate.py": "1", "search/stats.py": "2"}, "packages": {"torch": "2.13.0"}}
    now = SETTINGS | {"code": {"etarec/gate.py": "3", "search/new.py": "4"}, "packages": {"torch": "2.14.0"}}
    Records(tmp_path).begin(before)
    with pytest.raises(UserError, match="--accept-changes") as refused:
        Records(tmp_path).begin(now)
    changes = [
        "code was changed: etarec/gate.py, search/new.py, search/stats.py",
        "packages was changed: torch 2.13.0 -> 2.14.0",
    ]
    assert str(refused.value).endswith("; ".join(changes))
    assert Records(tmp_path).begin(now, accept_changes=True) == changes
    again = Records(tmp_path)
    assert again.begin(now) == [] and again.accepted == changes
    with pytest.raises(UserError, match="etarec/gate"):  # what was accepted is what the search has now
        again.begin(before)


def test_other_searched_fields_are_never_accepted(tmp_path: Path) -> None:
    settings = {"space.top_k.low": 2, "space.top_k.high": 50}
    Records(tmp_path).begin(settings)
    with pytest.raises(UserError, match=r"other searched fields; space\.batch_size\.low: was None, now 16"):
        Records(tmp_path).begin(settings | {"space.batch_size.low": 16}, accept_changes=True)
    assert Records(tmp_path).begin(settings | {"space.top_k.high": 60}, accept_changes=True)


def test_an_attempt_that_died_is_remembered(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.retried(3, "the worker process died", "Traceback ...")
    assert (records.trials[3].state, records.trials[3].retries) == (State.RUNNING, 1)
    records.tracked(3, "run-3")
    records.started(3, records.trials[3].parameters)
    records.finished(3, RESULT, CURVE)
    again = Records(tmp_path).trials[3]
    assert (again.state, again.retries, again.mlflow_run_id) == (State.FINISHED, 1, "run-3")


def test_states_are_listed_in_the_numbers_order(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for number in (2, 0, 1):
        records.started(number, {})
    records.ended(1, State.FAILED, "why")
    assert [trial.number for trial in records.in_state(State.RUNNING)] == [0, 2]
    assert [trial.number for trial in records.in_state(State.RUNNING, State.FAILED)] == [0, 1, 2]
    assert records.in_state(State.KILLED) == []


def test_a_trial_that_starts_again_forgets_its_end_but_not_its_run(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.tracked(2, "run-2")
    records.started(2, {"top_k": 7, "cosine_threshold": 0.3})
    assert Records(tmp_path).trials[2] == Trial(2, {"top_k": 7, "cosine_threshold": 0.3}, mlflow_run_id="run-2")


@pytest.mark.parametrize(
    "damage", [b'{"event": "sta', b"\xff\xfe", b"", b"5", b"{}", b'{"event": "ended", "number": 77, "state": "FAILED"}']
)
def test_a_damaged_line_in_the_middle_is_the_users_to_mend(tmp_path: Path, damage: bytes) -> None:
    filled(tmp_path)
    journal = tmp_path / "trials.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[2] = damage
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=r"trials\.jsonl: line 3 is damaged .*expected one JSON event a line"):
        Records(tmp_path)


def test_what_is_not_finite_does_not_enter_the_journal(tmp_path: Path) -> None:
    records = filled(tmp_path)
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.finished(3, RESULT | {"seconds": float("nan")}, CURVE)
    assert (tmp_path / "trials.jsonl").read_bytes() == before and records.trials[3].state is State.RUNNING


def test_trials_csv_follows_without_taking_the_time_of_the_search(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("search.records.TABLE_SHARE", 1e-9)
    written: list[tuple[object, ...]] = []
    monkeypatch.setattr("search.records.write_whole", lambda *given: written.append(given) or write_whole(*given))
    records = filled(tmp_path)
    assert len(written) == 1
    monkeypatch.setattr("search.records.TABLE_SHARE", 1e9)
    records.write_table()
    records.started(90, {"top_k": 3, "cosine_threshold": 0.1})
    assert len(written) == 3 and "trial-0090" in (tmp_path / "trials.csv").read_text()


def test_trials_csv_equals_the_journal(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.write_table()
    table = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)
    kept = [name for name in METRICS if name not in ("filtered_by_seen", "filtered_by_chance")]
    assert list(table) == [
        "trial_id",
        "state",
        "top_k",
        "cosine_threshold",
        *kept,
        "mlflow_run_id",
        "error",
        "traceback",
    ]
    for row, trial in zip(table.to_dict("records"), records.trials.values(), strict=True):
        assert (row["trial_id"], row["state"]) == (trial_id(trial.number), str(trial.state))
        assert row["top_k"] == ("" if trial.parameters["top_k"] is None else str(trial.parameters["top_k"]))
        assert [row[name] for name in kept] == [str(trial.metrics.get(name, "")) for name in kept]
        assert (row["mlflow_run_id"], row["error"]) == (trial.mlflow_run_id, trial.error)
        assert row["traceback"].replace("\\n", "\n") == trial.traceback
    assert any("\n" in trial.traceback for trial in records.trials.values())
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + len(table)


def test_the_table_of_no_trials_has_its_columns(tmp_path: Path) -> None:
    assert list(Records(tmp_path).table())[:2] == ["trial_id", "state"]


def test_parts_of_the_filter_rate_are_columns_only_where_they_apply() -> None:
    table = pd.DataFrame(
        {
            "valid_filtered_by_seen": [0.0, 0.5],
            "test_filtered_by_seen": [None, None],
            "filtered_by_chance": [0.0, None],
            "filtered_by_entropy": [0.0, 0.0],
        }
    )
    assert list(without_idle_columns(table)) == ["valid_filtered_by_seen", "filtered_by_entropy"]


def test_an_error_that_is_no_text_does_not_end_the_search(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.started(0, {"top_k": 3})
    records.retried(0, "lost \udc80", "in \ud800")
    records.ended(0, State.FAILED, "no file \udcff", "of \udcff")
    records.write_table()
    assert Records(tmp_path).trials[0].error == "no file ?" in (tmp_path / "trials.csv").read_text()


def test_anchors_come_back_from_the_journal(tmp_path: Path) -> None:
    records = Records(tmp_path)
    measured = Anchor("none", {"target": "none", "top_k": None}, {"hr_at_10": 0.25})
    records.anchored(measured)
    records.anchored(Anchor("all", {"gate": "open"}, {}))
    again = Records(tmp_path).anchors
    assert again == records.anchors == {"none": measured, "all": Anchor("all", {"gate": "open"}, {})}
    assert not Records(tmp_path).trials


def test_a_group_of_settings_that_an_old_journal_lacks_is_no_match(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS)
    with pytest.raises(UserError, match="code: was not recorded"):
        Records(tmp_path).begin(SETTINGS | {"code": {"etarec/gate.py": "1"}})


def test_a_group_of_settings_that_only_the_journal_has_is_no_match(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS | {"packages": {"torch": "2.13.0"}})
    with pytest.raises(UserError, match=r"packages: was .*, now None"):
        Records(tmp_path).begin(SETTINGS)


@pytest.mark.parametrize("name", ["hr_at_10", "state", "error", "mlflow_run_id"])
def test_a_parameter_with_the_name_of_a_column_is_named(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    journal = tmp_path / "trials.jsonl"
    journal.write_text(journal.read_text() + f'{{"event": "started", "number": 9, "parameters": {{"{name}": 1}}}}\n')
    with pytest.raises(UserError, match=rf"line \d+ is damaged .* has the name of a column of trials.csv: {name}"):
        Records(tmp_path)
