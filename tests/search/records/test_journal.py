"""The journal's lines on disk: what a crash may leave behind, and who may write."""

import errno
import json
import os
from pathlib import Path

import pytest

from etarec.config import UserError
from search.records.journal import JOURNAL, append, held, holds_search, lines


def test_an_event_is_one_line_and_comes_back_as_a_reader_finds_it(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    assert not holds_search(tmp_path) and lines(journal) == []
    event = {"event": "started", "parameters": (50, None), "text": "two\nlines"}
    assert append(journal, event) == {"event": "started", "parameters": [50, None], "text": "two\nlines"}
    append(journal, {"event": "ended"})
    assert [json.loads(line)["event"] for line in lines(journal)] == ["started", "ended"]
    assert holds_search(tmp_path)


@pytest.mark.parametrize("left", [1, 20, -1])
@pytest.mark.parametrize("whole", [b"", b'{"event": "search"}\n'])
def test_a_torn_last_line_never_happened_and_is_written_over(tmp_path: Path, whole: bytes, left: int) -> None:
    journal = tmp_path / JOURNAL
    torn = json.dumps({"event": "ended", "number": 3, "state": "FAILED", "error": "cut"}).encode()[:left]
    journal.write_bytes(whole + torn)
    before = lines(journal)
    assert before == whole.splitlines()
    append(journal, {"event": "next"})
    assert journal.read_bytes() == whole + b'{"event": "next"}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_not_written(tmp_path: Path, value: float) -> None:
    append(tmp_path / JOURNAL, {"event": "search"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(tmp_path / JOURNAL, {"seconds": value})
    assert (tmp_path / JOURNAL).read_bytes() == b'{"event": "search"}\n'


def test_held_lets_one_in_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UserError, match="still running"), held(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), held(tmp_path):
        raise ZeroDivisionError
    with held(tmp_path):
        pass


def test_a_full_disk_names_the_journal_and_costs_only_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / JOURNAL
    append(journal, {"event": "search"})

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, journal.stat().st_size - 5)  # as much of the line as there was room for
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as error:
            append(journal, {"event": "started"})
    assert error.value.filename == str(journal)
    append(journal, {"event": "next"})
    assert journal.read_bytes() == b'{"event": "search"}\n{"event": "next"}\n'


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_journal_of_another_user_or_on_a_read_only_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*given: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.open", refuse)
    message = rf"/{JOURNAL}: {os.strerror(number)}, expected a file that this user can read and write"
    with pytest.raises(UserError, match=message), held(tmp_path):
        pass
