"""The parts that all commands share: exit statuses with one message, file names in messages, short paths."""

import errno
import io
import os
import sys
import tempfile
from pathlib import Path

import pytest

from etarec.command_line import (
    LONGEST,
    absolute_path,
    command_parser,
    exit_status,
    experiment_parser,
    named_path,
    naming,
    noting,
    short_path,
)
from etarec.config import UserError
from etarec.disk import write_whole


@pytest.mark.parametrize(
    ("ends", "status", "message"),
    [
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (lambda: fail(UserError("space.yaml: missing")), 2, "error: space.yaml: missing\n"),
        (lambda: fail(KeyboardInterrupt()), 130, "stopped; nothing was written\n"),
    ],
)
def test_each_end_has_its_status_and_message(capsys: pytest.CaptureFixture[str], ends, status, message) -> None:
    assert exit_status(interrupted="stopped; nothing was written")(ends)() == status
    assert capsys.readouterr() == ("", message)


def test_a_character_that_the_terminal_lacks_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    exit_status(interrupted="")(lambda: print("−0.4% für 日本", flush=True) or 0)()
    assert terminal.buffer.getvalue() == b"?0.4% f?r ??\n"


def test_an_empty_path_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    parser = experiment_parser("search.tune", "")
    for flag, kind in (("--out", absolute_path), ("--file", named_path)):
        parser.add_argument(flag, type=kind)
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--space", "a.yaml", flag, ""])
        assert ended.value.code == 2
        assert f"argument {flag}: given an empty text, expected a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "No space left on device; free space there"),
        (errno.EDQUOT, "Disk quota exceeded; free space there"),
        (errno.EROFS, "Read-only file system; make it writable again"),
        (errno.EIO, "Input/output error; mend the disk"),
    ],
)
def test_a_fault_of_the_disk_gives_one_message_with_the_first_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, code: int, expected: str
) -> None:
    def ends() -> int:
        try:
            write_whole(file, "text")
        except OSError:
            fail(RuntimeError("the work that ends a search fails too"))
        return 0

    file = tmp_path / "trials.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda *given: fail(OSError(code, os.strerror(code))))
        assert exit_status(interrupted="")(ends)() == 1
    advice = "then give the same command again, for a search with --resume\n"
    assert capsys.readouterr().err == f"error: {file}: {expected}, {advice}" and list(tmp_path.iterdir()) == []


def test_a_fault_that_names_no_file_takes_the_name_from_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A write that fails names nothing, and the file's closing fails again."""

    def ends() -> int:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "trials.jsonl") from None

    assert exit_status(interrupted="")(ends)() == 1
    assert capsys.readouterr().err.startswith("error: trials.jsonl: No space left on device; free space there, ")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "no", "log.csv"), "PermissionError: [Errno 13] no: 'log.csv'"),
        (ValueError("too long\n" + 900 * "x"), "ValueError: too long"),
        (ValueError(900 * "x"), f"ValueError: {LONGEST * 'x'}"),
        (NotImplementedError(), "NotImplementedError"),
        (RuntimeError('measure() (pid=7)\n  File "a.py", line 3\nKeyError: 5\n'), "RuntimeError: KeyError: 5"),
    ],
)
def test_an_unforeseen_error_is_one_message_and_its_traceback_a_file(
    capsys: pytest.CaptureFixture[str], temporary: Path, error: Exception, message: str
) -> None:
    assert exit_status(interrupted="")(lambda: fail(error))() == 1
    (file,) = temporary.iterdir()
    fault = f"The program did not foresee this. The traceback is in {file}; --debug prints it.\n"
    assert capsys.readouterr() == ("", f"error: {message}\n{fault}")
    text = file.read_text()
    assert text.startswith("Traceback (most recent call last):") and str(error).strip() in text and "in fail\n" in text
    assert file.name.startswith("etarec-error-") and file.stat().st_mode & 0o777 == 0o600


def test_debug_prints_the_traceback_of_this_command_alone(capsys: pytest.CaptureFixture[str], temporary: Path) -> None:
    def main(words: list[str]) -> int:
        command_parser("search.report", "").parse_args(words)
        return fail(RuntimeError("no such wheel"))

    assert exit_status(interrupted="")(main)(["--debug"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: not foreseen by the program\nTraceback (most recent call last):\n")
    assert printed.endswith("\nRuntimeError: no such wheel\n")
    assert list(temporary.iterdir()) == []
    assert exit_status(interrupted="")(main)([]) == 1
    assert "Traceback (most" not in capsys.readouterr().err and len(list(temporary.iterdir())) == 1


def test_a_traceback_that_no_file_can_hold_is_printed(
    capsys: pytest.CaptureFixture[str], temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    assert exit_status(interrupted="")(lambda: fail(RuntimeError("no such wheel")))() == 1
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last):" in printed and printed.endswith("\nRuntimeError: no such wheel\n")


def test_secrets_are_removed_from_an_unforeseen_error_and_its_traceback(
    capsys: pytest.CaptureFixture[str], temporary: Path
) -> None:
    def hidden(text: str) -> str:
        return text.replace("hunter22", "...")

    assert exit_status(interrupted="", redact=hidden)(lambda: fail(ValueError("no user ada:hunter22")))() == 1
    (file,) = temporary.iterdir()
    assert capsys.readouterr().err.startswith("error: ValueError: no user ada:...\n")
    assert "no user ada:..." in file.read_text() and "hunter22" not in file.read_text()


def test_a_note_says_what_an_unforeseen_error_left(capsys: pytest.CaptureFixture[str], temporary: Path) -> None:
    def main() -> int:
        with noting("runs/demo keeps the trials so far"):
            return fail(RuntimeError("no such wheel"))

    assert exit_status(interrupted="")(main)() == 1
    message = "error: RuntimeError: no such wheel; runs/demo keeps the trials so far\n"
    assert capsys.readouterr().err.startswith(message)


def test_arguments_of_every_experiment() -> None:
    parser = experiment_parser("search.tune", "")
    given = parser.parse_args(["--space", "a.yaml", "--set", "a=1", "b=2", "--set", "c=3"])
    assert (given.space, given.set) == (Path("a.yaml"), ["a=1", "b=2", "c=3"])
    assert parser.prog == "python -m search.tune" and parser.parse_args(["--space", "a.yaml"]).set == []


def test_a_message_names_the_file_once() -> None:
    for file, message in (
        (Path("space.yaml"), "space.yaml: search.trials: too many"),
        (None, "search.trials: too many"),
    ):
        with pytest.raises(UserError) as error, naming(file):
            fail(UserError("search.trials: too many"))
        assert str(error.value) == message


def test_a_path_is_as_short_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert short_path(tmp_path / "here/runs/demo") == "runs/demo"
    assert short_path(tmp_path / "here") == "."
    assert short_path(tmp_path / "elsewhere") == str(tmp_path / "elsewhere")


def fail(error: BaseException) -> int:
    raise error


def test_a_text_from_a_file_cannot_steer_the_terminal(capsys):
    @exit_status(interrupted="interrupted")
    def main() -> int:
        raise UserError("a log: given \x1b[2J\x07 \u202e\nexpected items, such as é or 日")

    assert main() == 2
    assert capsys.readouterr().err == "error: a log: given \\x1b[2J\\x07 \\u202e\nexpected items, such as é or 日\n"
