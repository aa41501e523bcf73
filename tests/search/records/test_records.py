"""The journal: which events count, and which damage a crash may leave behind."""

import json
import time
from pathlib import Path

import pytest
from made_up_records import CURVE, RESULT, SETTINGS, filled

from etarec.config import UserError
from etarec.disk import write_whole
from search.records.records import Records
from search.records.start import Source, Start
from search.records.states import State
from search.records.trial import Anchor, Trial


def test_the_journal_replays_to_the_same_records(tmp_path: Path) -> None:
    written, read = filled(tmp_path), Records(tmp_path)
    assert read.trials == written.trials
    assert (read.identity, read.parent_run_id) == (written.identity, "parent")
    assert read.trials[0] == Trial(
        0, {"top_k": 50, "cosine_threshold": 0.3}, State.FINISHED, RESULT, CURVE, mlflow_run_id="run-0"
    )
    assert read.trials[1].error.startswith("NotFiniteError") and "\n" in read.trials[1].traceback
    killed = {"top_k": 7, "cosine_threshold": 0.3}
    assert read.trials[2] == Trial(2, killed, State.KILLED, error="the search was interrupted")


def test_a_search_that_goes_on_keeps_its_identity(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    identity = filled(tmp_path).identity
    again = Records(tmp_path)
    again.begin(SETTINGS)
    other = Records(tmp_path / "other")
    other.begin(SETTINGS)
    assert again.identity == identity and other.identity not in ("", identity)


def test_a_journal_of_an_earlier_version_lacks_what_is_empty(tmp_path: Path) -> None:
    """Times, outcomes and curves came later, as did searches that start from earlier ones."""
    events: list[dict[str, object]] = [
        {"event": "search", "identity": "id", "settings": SETTINGS},
        {"event": "anchor", "name": "none", "adapt": {}, "metrics": {}},
        {"event": "started", "number": 0, "parameters": {"top_k": 3}},
        {"event": "ended", "number": 0, "state": "FINISHED", "metrics": RESULT},
    ]
    (tmp_path / "trials.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    read = Records(tmp_path)
    assert read.trials == {0: Trial(0, {"top_k": 3}, State.FINISHED, RESULT)}
    assert (read.trials[0].began, read.trials[0].ended) == (0.0, 0.0)
    assert (read.anchors, read.first, read.sources) == ({"none": Anchor("none", {}, {})}, [], [])


def test_a_folder_without_a_journal_has_empty_records(tmp_path: Path) -> None:
    empty = Records(tmp_path)
    assert (empty.users, empty.parent_run_id, empty.identity) == ("", "", "")
    assert (empty.settings, empty.accepted, empty.mixed, empty.sources, empty.first) == ({}, [], set(), [], [])


def test_what_was_taken_from_earlier_searches_comes_back(tmp_path: Path) -> None:
    taken = Trial(0, {"top_k": 9}, State.FINISHED, RESULT, CURVE, outcomes="bits", source="/runs/mine/trial-0003")
    begun, first = Source("/runs/mine", "id", trials=1, first=1), {"top_k": 4}
    Records(tmp_path).begin(SETTINGS, start=Start([taken], [first], [begun]))
    again = Records(tmp_path)
    assert again.trials == {0: taken} and again.trials[0].state is State.FINISHED and again.taken == [taken]
    assert (again.sources, again.first) == ([begun], [first])


def test_accepted_changes_add_up(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS)
    assert Records(tmp_path).begin(SETTINGS | {"search.seed": 1}, accept_changes=True) == ["search.seed: was 0, now 1"]
    Records(tmp_path).begin({"search.seed": 1, "data.sha256": "b"}, accept_changes=True)
    again = Records(tmp_path)
    assert again.mixed == {"search.seed", "data.sha256"} and len(again.accepted) == 2
    assert again.check({"search.seed": 1, "data.sha256": "b"}) == []


def test_times_users_and_outcomes_are_recorded(tmp_path: Path) -> None:
    before = time.time()
    records = Records(tmp_path)
    records.streaming("users")
    records.started(0, {"top_k": 3})
    records.finished(0, RESULT, CURVE, "bits")
    again = Records(tmp_path)
    assert (again.users, again.trials[0].outcomes) == ("users", "bits")
    assert before - 0.001 <= again.trials[0].began <= again.trials[0].ended <= time.time() + 0.001
    copy = records.snapshot()
    assert copy == [again.trials[0]] and copy[0] is not records.trials[0]


def test_an_attempt_that_died_is_remembered(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.retried(3, "the worker process died", "Traceback ...")
    records.retried(3, "out of memory", "")
    assert (records.trials[3].state, records.trials[3].retries) == (State.RUNNING, 2)
    first, second = map(json.loads, (tmp_path / "trials.jsonl").read_text().splitlines()[-2:])
    assert (first["error"], first["traceback"]) == ("the worker process died", "Traceback ...")
    assert second["error"] == "out of memory"
    records.tracked(3, "run-3")
    records.started(3, records.trials[3].parameters)
    records.finished(3, RESULT, CURVE)
    again = Records(tmp_path).trials[3]
    assert (again.state, again.retries, again.mlflow_run_id) == (State.FINISHED, 2, "run-3")


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


def test_trials_csv_takes_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch) -> None:
    """The first event writes it at once, and a table written in two seconds is not written again for forty more."""
    clock, table = [0.0], tmp_path / "trials.csv"
    monkeypatch.setattr("search.records.records.time.monotonic", lambda: clock[0])

    def slow(*given: object) -> None:
        clock[0] += 2
        write_whole(*given)

    monkeypatch.setattr("search.records.records.write_whole", slow)
    records = filled(tmp_path)
    assert "trial-0000" not in table.read_text() and clock == [2.0]
    clock[0] = 41.9
    records.started(90, {"top_k": 3, "cosine_threshold": 0.1})
    assert "trial-0090" not in table.read_text()
    clock[0] = 42.0
    records.started(91, {"top_k": 3, "cosine_threshold": 0.1})
    assert "trial-0090" in table.read_text() and "trial-0091" in table.read_text() and clock == [44.0]
    clock[0] = 84.0
    records.started(92, {"top_k": 3, "cosine_threshold": 0.1})
    assert "trial-0092" in table.read_text()


def test_an_error_that_is_no_text_does_not_end_the_search(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.started(0, {"top_k": 3})
    records.retried(0, "lost \udc80", "in \ud800")
    records.ended(0, State.FAILED, "no file \udcff", "of \udcff")
    records.write_table()
    assert Records(tmp_path).trials[0].error == "no file ?" in (tmp_path / "trials.csv").read_text()


def test_anchors_come_back_from_the_journal(tmp_path: Path) -> None:
    records = Records(tmp_path)
    measured = Anchor("none", {"target": "none", "top_k": None}, {"hr_at_10": 0.25}, outcomes="bits")
    records.anchored(measured)
    records.anchored(Anchor("all", {"gate": "open"}, {}))
    again = Records(tmp_path).anchors
    assert again == records.anchors == {"none": measured, "all": Anchor("all", {"gate": "open"}, {})}
    assert not Records(tmp_path).trials


@pytest.mark.parametrize("name", ["hr_at_10", "state", "error", "mlflow_run_id"])
def test_a_parameter_with_the_name_of_a_column_is_named(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    journal = tmp_path / "trials.jsonl"
    journal.write_text(journal.read_text() + f'{{"event": "started", "number": 9, "parameters": {{"{name}": 1}}}}\n')
    with pytest.raises(UserError, match=rf"line \d+ is damaged .* has the name of a column of trials.csv: {name}"):
        Records(tmp_path)
