"""The earlier searches in words, and the settings that decide whether a search may go on."""

from pathlib import Path

import pytest
from made_up_records import SETTINGS

from etarec.config import UserError
from search.records.records import Records
from search.records.start import Source, other_than_software


def test_an_earlier_search_is_named_with_what_was_taken_from_it() -> None:
    assert str(Source("/runs/mine", "id", trials=1)) == "1 trial of /runs/mine"
    assert str(Source("/runs/mine", "id", first=7)) == "7 first trials from the front of /runs/mine"


def test_code_and_packages_are_no_other_experiment() -> None:
    before, now = {"code": 1, "packages": 1, "search.seed": 0}, {"code": 2, "packages": 2, "search.seed": 1, "new": 1}
    assert other_than_software(before, now) == {"search.seed", "new"}


def test_a_search_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS)
    before = (tmp_path / "trials.jsonl").read_bytes()
    now = SETTINGS | {"data.sha256": "b", "search.concurrency": 2}
    with pytest.raises(UserError) as refused:
        Records(tmp_path).begin(now)
    assert str(refused.value) == (
        f"{tmp_path}: --resume with other settings than the search began with (--accept-changes resumes it all the "
        "same, and its earlier trials stay as they were measured); data.sha256: was a, now b; search.concurrency: was "
        "None, now 2"
    )
    with pytest.raises(UserError, match="--resume with other settings"):  # and so does a dry run
        Records(tmp_path).check(now)
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_search_that_has_not_begun_agrees_with_every_setting(tmp_path: Path) -> None:
    assert Records(tmp_path).check(SETTINGS) == [] and not (tmp_path / "trials.jsonl").exists()


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
    now = settings | {"space.batch_size.low": 16, "space.batch_size.high": 64}
    with pytest.raises(UserError, match=r"other searched fields; space\.batch_size\.high: was None, now 64; space\.b"):
        Records(tmp_path).begin(now, accept_changes=True)
    assert Records(tmp_path).begin(settings | {"space.top_k.high": 60}, accept_changes=True)


def test_a_group_of_settings_that_an_old_journal_lacks_is_no_match(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS)
    with pytest.raises(UserError, match="code: was not recorded"):
        Records(tmp_path).begin(SETTINGS | {"code": {"etarec/gate.py": "1"}})


def test_a_group_of_settings_that_only_the_journal_has_is_no_match(tmp_path: Path) -> None:
    Records(tmp_path).begin(SETTINGS | {"packages": {"torch": "2.13.0"}})
    with pytest.raises(UserError, match=r"packages: was .*, now None"):
        Records(tmp_path).begin(SETTINGS)
