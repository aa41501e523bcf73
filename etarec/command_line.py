"""The rules that all commands share: their common arguments, their exit statuses, and how a message names a file."""

import argparse
import errno
import io
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from etarec.config import UserError

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130  # 130 is 128 + SIGINT, as shells report a Ctrl-C
LONGEST = 300  # characters of an unforeseen error in its message; its file has all of them
_CURES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space there"),
    errno.EROFS: "make it writable again",
    errno.EIO: "mend the disk",
}
P = ParamSpec("P")
_DEBUG = threading.Event()


class _Debug(argparse.Action):
    def __call__(self, *given: Any) -> None:
        _DEBUG.set()


def command_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE` with the argument that every command has."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--debug", action=_Debug, nargs=0, help="print the traceback of an unforeseen error")
    return parser


def experiment_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE` with the arguments that every command on an experiment file has."""
    parser = command_parser(module, description)
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="experiment file (YAML)")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="key.path=value",
        help="values that replace those of the file, such as train.epochs=20",
    )
    return parser


def named_path(text: str) -> Path:
    """The type of an argument that names a file or folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("given an empty text, expected a path")
    return Path(text)


def absolute_path(text: str) -> Path:
    """The type of an argument that names a file or folder, made absolute."""
    return named_path(text).absolute()


def exit_status(
    interrupted: str, redact: Callable[[str], str] = lambda text: text
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's `main`: a UserError gives one message and status 2, Ctrl-C `interrupted` and status 130.

    Other errors give one message and status 1: a disk that is full, read-only or broken, and what nobody foresaw. The
    traceback of the latter is kept in a temporary file; with `--debug` it is printed.

    Args:
        interrupted: the message after Ctrl-C.
        redact: removes secrets from an unforeseen error and its traceback.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            _DEBUG.clear()
            _replace_what_stdout_cannot_encode()
            try:
                return main(*args, **kwargs)
            except UserError as error:
                print(f"error: {printable(str(error))}", file=sys.stderr)
                return USER_ERROR
            except KeyboardInterrupt:
                print(interrupted, file=sys.stderr)
                return INTERRUPTED
            except Exception as error:
                message = _disk_fault(error) or _unforeseen(error, redact)
                print(f"error: {printable(message)}", file=sys.stderr)
                return FAILED

        return guarded

    return decorate


@contextmanager
def noting(note: str) -> Iterator[None]:
    """An error that the block raises gets a note, such as what was kept, which is shown if nobody foresaw the error."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UserError):
            error.add_note(note)
        raise


def printable(text: str) -> str:
    """A text from a file with its control characters written as `\\x1b`, so that it cannot steer a terminal."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def is_disk_fault(error: OSError) -> bool:
    """Whether the disk is full, read-only or broken, so that the path is not to blame; `exit_status` tells the user."""
    return error.errno in _CURES


def _disk_fault(error: BaseException | None) -> str | None:
    """The message for an error that a disk's fault caused; None for another error.

    The earliest of several such errors gives the message, because later ones come from work that ends the program. A
    file that cannot be written fails again when it is closed, and only that second error may name it.
    """
    message, name = None, "a file"
    while error is not None:
        if isinstance(error, OSError) and (cure := _CURES.get(error.errno or 0)):
            name = error.filename or name
            message = f"{name}: {error.strerror}; {cure}, then give the same command again, for a search with --resume"
        error = error.__cause__ or error.__context__
    return message


def _unforeseen(error: Exception, redact: Callable[[str], str]) -> str:
    """The message about an error of the program: its kind and cause, its notes, and where its traceback is."""
    text = redact("".join(traceback.format_exception(error)).strip())
    if _DEBUG.is_set():
        return f"not foreseen by the program\n{text}"
    cause = redact(_cause(str(error)))[:LONGEST]
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    try:
        with tempfile.NamedTemporaryFile("wb", prefix="etarec-error-", suffix=".txt", delete=False) as file:
            file.write(text.encode(errors="replace"))
    except OSError:  # nothing may hide what happened
        return f"not foreseen by the program\n{text}"
    return (
        f"{type(error).__name__}{': ' * bool(cause)}{cause}{notes}\nThe program did not foresee this. The "
        f"traceback is in {file.name}; --debug prints it."
    )


def _cause(text: str) -> str:
    """The line of an error's text that tells its cause: the last one of a worker's traceback, otherwise the first."""
    lines = text.strip().splitlines() or [""]
    return lines[-1] if 'File "' in text else lines[0]


def _replace_what_stdout_cannot_encode() -> None:
    """Characters that the terminal's or the log's encoding lacks are printed as `?`, and end no search."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """A UserError raised in the block gets the name of the file that holds the key at fault."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}" if file else str(error)) from error


def short_path(path: Path) -> str:
    """The shortest text that names `path` from the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
