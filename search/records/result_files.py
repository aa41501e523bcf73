"""Files that a search has written, read back for its report and for MLflow. A damaged file ends in one UserError."""

import json
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import yaml

from etarec.config import UserError
from etarec.document import quoted

RESTORE = "restore the file, or write it again with `search.tune --resume`"
_PARSERS: dict[str, Callable[[str], Any]] = {".yaml": yaml.safe_load, ".json": json.loads}


def check_folder(directory: Path) -> None:
    """Raise UserError if there is no such folder."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; expected the folder of a search, such as runs/demo")


def damaged(file: Path, found: str, expected: str) -> UserError:
    """The error about a file that holds `found` where a search writes `expected`."""
    return UserError(f"{file}: {found}, expected {expected}; {RESTORE}")


def text_of(file: Path) -> str:
    """The text of a file. Raises UserError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, f"not UTF-8 at byte {error.start}", "a text file") from error
    except OSError as error:
        raise damaged(file, f"cannot be read ({error.strerror})", "a file that each search writes") from error


def mapping_of(file: Path, sections: Set[str] = frozenset()) -> dict[str, Any]:
    """The mapping in a YAML or JSON file, whose `sections` must be mappings, null or missing.

    Raises UserError if the file cannot be read or holds something else.
    """
    text = text_of(file)
    try:
        content = _PARSERS[file.suffix](text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise damaged(file, f"cannot be parsed ({reason})", f"a mapping in {file.suffix[1:].upper()}") from error
    if not isinstance(content, dict):
        raise damaged(file, f"given {quoted(content)}", "a mapping of keys to values")
    for key in sorted(sections & content.keys()):
        if content[key] is not None and not isinstance(content[key], dict):
            raise damaged(file, f"{key}: given {quoted(content[key])}", "a mapping of keys to values")
    return content
