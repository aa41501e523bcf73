"""The output folder of a search."""

from pathlib import Path

from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.records.journal import JOURNAL, holds_search


def default_directory(name: str, resume: bool) -> Path:
    """The first of runs/NAME, runs/NAME-2 and so on that holds no search; to resume, the last that holds one."""
    directory, number = Path("runs", name), 1
    while holds_search(directory):
        last, number = directory, number + 1
        directory = Path("runs", f"{name}-{number}")
    return (last if resume and number > 1 else directory).absolute()


def check_directory(directory: Path, resume: bool) -> None:
    """Raise UserError where a search would be overwritten, one to resume is missing, or the folder cannot be made."""
    used = holds_search(directory)
    if used and not resume:
        raise UserError(f"{directory}: holds a search already; add --resume to finish it, or give another --out")
    if resume and not used:
        raise UserError(f"{directory}: holds no search to resume; expected a folder with a {JOURNAL}")
    check_folder(directory, "--out")
