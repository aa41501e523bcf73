"""The output folder of a search: the next free one, or the last one to resume."""

from pathlib import Path

import pytest

from etarec.config import UserError
from search.records.folder import check_directory, default_directory
from search.records.journal import JOURNAL


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / JOURNAL).write_text("")
    return tmp_path / "runs"


def test_a_search_takes_the_next_free_folder_and_a_resumed_one_the_last_used(folder: Path) -> None:
    assert default_directory("other", resume=False) == default_directory("other", resume=True) == folder / "other"
    assert default_directory("mine", resume=False) == folder / "mine-3"
    assert default_directory("mine", resume=True) == folder / "mine-2"


def test_a_used_folder_is_not_overwritten_and_an_empty_one_not_resumed(folder: Path) -> None:
    with pytest.raises(UserError, match="mine: holds a search already; add --resume"):
        check_directory(folder / "mine", resume=False)
    with pytest.raises(UserError, match="other: holds no search to resume"):
        check_directory(folder / "other", resume=True)
    check_directory(folder / "mine", resume=True)
    check_directory(folder / "other", resume=False)
