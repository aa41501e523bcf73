"""The experiment file, read the same way by training and by search: `--set` applied, paths absolute, clear messages.

The dataclasses alone hold ranges and defaults. Messages are derived from the JSON schema of the dataclasses.
"""

import errno
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from etarec.config import DataConfig, ModelConfig, TrainConfig, UserError
from etarec.disk import try_folder
from etarec.document import quoted, read_yaml
from etarec.document_schema import Location, Node, Schema, dotted
from etarec.override import parse_override

T = TypeVar("T")
Problem = tuple[Location, str]

LONGEST_NAME = 255  # bytes; file systems take no longer one

# All top-level keys, in the order in which messages list them. Those that only a search reads: search/spec/.
KEYS = ("name", "data", "checkpoint", "model", "train", "adapt", "space", "search", "baselines", "table")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class TrainingSpec:
    """The sections of an experiment file that training reads. The path in `data` is absolute."""

    data: DataConfig = Field(description="interactions")
    model: ModelConfig = Field(default_factory=ModelConfig, description="architecture")
    train: TrainConfig = Field(default_factory=TrainConfig, description="training of the checkpoint")


class ExperimentFile:
    """The data of one experiment file with `--set` applied; messages name the key and the `--set` at fault.

    A relative path in the file starts at the file's folder, one in an override at the current folder.
    Raises UserError if the file cannot be read or an override names a key that `schema` does not have.
    """

    def __init__(self, path: Path, overrides: Sequence[str], schema: Schema) -> None:
        self.path, self.schema = path, schema
        # A section whose keys are all commented out is read as null and gets its defaults.
        given = read_yaml(path).items()
        self.document = {key: value for key, value in given if not (value is None and schema.keys((key,)))}
        _make_paths_absolute(self.document, path.parent)
        self.origins = list(self._override_all(overrides))
        data = self.document.setdefault("data", {})
        if isinstance(data, dict) and not {"dataset", "path"} & data.keys():
            data["dataset"] = "simulated"

    def validated(self, adapter: TypeAdapter[T], document: dict[str, Any], problems: dict[Location, str]) -> T:
        """The object that `adapter` makes of `document`.

        Raises UserError with all problems, those in `problems` and those that the adapter finds, one per line:
        `FILE: key.path: what was given, what was expected`. An empty text in `problems` hides the adapter's problem.
        """
        problems = {**dict(_path_problems(self.document)), **problems}
        try:
            value = adapter.validate_json(json.dumps(document))
        except ValidationError as error:
            for place, problem in map(self._translate, error.errors()):
                problems.setdefault(place, problem)
        self.refuse({place: text for place, text in problems.items() if text})
        return value

    def refuse(self, problems: dict[Location, str]) -> None:
        """Raise UserError with these problems, one per line in the order of the sections; do nothing without any."""
        if problems:
            ordered = sorted(problems.items(), key=lambda item: self._section_number(item[0]))
            lines = (f"{self.path}: {dotted(place)}: {problem}{self._origin(place)}" for place, problem in ordered)
            raise UserError("\n".join(lines))

    def _override_all(self, texts: Sequence[str]) -> Iterator[tuple[Location, str]]:
        """The location that each `--set` text changed, and the text. Raises UserError with every text that failed."""
        problems = []
        for text in texts:
            try:
                yield self._override(text), text
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError("\n".join(problems))

    def _override(self, text: str) -> Location:
        """Apply one `--set` text to the document and return the location that it changed."""
        keys, value = parse_override(text, self.schema)
        change: Any = value
        for key in reversed(keys):
            change = {key: change}
        _make_paths_absolute(change, Path.cwd())
        _drop_replaced(self.document, change)
        _put(self.document, keys, change, text)
        return keys

    def _translate(self, error: Any) -> Problem:
        """One pydantic error as a location in the file and a message."""
        place = self.schema.known_part(error["loc"])
        if error["type"] == "unexpected_keyword_argument":
            return error["loc"], self.schema.unknown(error["loc"])
        if error["type"] == "value_error":
            return place, str(error["ctx"]["error"])
        return place, f"given {quoted(error['input'])}, expected {self.schema.expected(place)}"

    def _section_number(self, place: Location) -> int:
        sections = self.schema.keys(())
        return sections.index(str(place[0])) if place[0] in sections else len(sections)

    def _origin(self, place: Location) -> str:
        """The note that names the `--set` which caused a problem, or an empty text."""
        for keys, text in reversed(self.origins):
            shared = min(len(keys), len(place)) if place[0] == "space" else len(keys)
            if place[:shared] == keys[:shared]:
                return f" (from --set {text})"
        return ""


def load_training(path: Path, overrides: Sequence[str] = ()) -> TrainingSpec:
    """The sections of an experiment file that training needs, validated. Sections only a search needs are ignored.

    Raises UserError with every problem, worded as by `search.spec.load`.
    """
    for text in overrides:
        if (key := text.partition("=")[0].partition(".")[0].strip()) in _SEARCH_ONLY_KEYS:
            raise UserError(f"--set {text}: training does not read {key}; expected a key of data, model or train")
    file = ExperimentFile(path, overrides, _SCHEMA)
    given = file.document.pop("checkpoint", None)
    fault = f"given {quoted(given)}, so there is nothing to train; leave the key out, or set it to null, to train one"
    problems: dict[Location, str] = {("checkpoint",): fault} if given is not None else {}
    read = {key: value for key, value in file.document.items() if key not in _SEARCH_ONLY_KEYS}
    return file.validated(_ADAPTER, read, problems)


def check_folder(folder: Path, flag: str, size: int = 1, files: int = 1) -> None:
    """Check that `size` bytes can be written to `folder`, which need not exist yet, by writing them.

    files: the number of files that will be made there; a file system may run out of inodes before it is full.

    Raises UserError, whose message begins with the option `flag`, if the folder can be neither used nor created.
    """
    left = _files_left(folder)
    if left < files:
        raise UserError(
            f"{flag}: {folder} has room for {left:,.0f} more files (free inodes), expected {files:,}; remove some there"
        )
    try:
        try_folder(folder, size)
    except OSError as error:
        raise UserError(f"{flag}: {_fault(folder, error, size)}") from error


def _files_left(folder: Path) -> float:
    """The number of files that can still be made; infinite where the file system has no limit or does not tell."""
    try:
        nearest = next(one for one in (folder, *folder.parents) if one.exists())
        there = os.statvfs(nearest)
    except OSError:
        return math.inf
    return there.f_favail if there.f_files else math.inf


def check_file(path: Path, flag: str) -> None:
    """Check that a file can be written to `path`. Raises UserError, whose message begins with the option `flag`."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UserError(f"{flag}: {path}: expected a file name of at most {LONGEST_NAME} bytes")
    if path.is_dir():
        raise UserError(f"{flag}: {path} is a folder, expected a file name")
    if path.exists() and not path.is_file():
        raise UserError(f"{flag}: {path} is not an ordinary file, expected a file name")
    check_folder(path.parent, flag)


def _fault(folder: Path, error: OSError, size: int) -> str:
    """Why files cannot be written to `folder`, and what was expected."""
    nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if nearest.is_symlink() and not nearest.exists():
        return f"{nearest} is a symbolic link that leads nowhere, expected a folder"
    if not nearest.is_dir():
        return f"{nearest} is a file, expected a folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and size < 2**20:
        return f"{folder} has no room for a file ({error.strerror}), expected free space"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder} has no room for {size / 2**20:,.0f} MiB ({error.strerror}), expected that much free space"
    return f"{folder} cannot be written to ({error.strerror}), expected a folder that can"


def _make_paths_absolute(document: dict[str, Any], folder: Path) -> None:
    for section, key in ((document.get("data"), "path"), (document, "checkpoint")):
        if isinstance(section, dict) and isinstance(path := section.get(key), str) and path.strip():
            if key == "path" and "://" in path:
                continue  # an address
            section[key] = os.path.abspath(folder / os.path.expanduser(path))


def _path_problems(document: dict[str, Any]) -> Iterator[Problem]:
    data = document.get("data")
    path = data.get("path") if isinstance(data, dict) else None
    for place, given in ((("data", "path"), path), (("checkpoint",), document.get("checkpoint"))):
        if isinstance(given, str) and (not given.strip() or "\0" in given):
            yield place, f"given {quoted(given)}, expected a file"


def _drop_replaced(document: dict[str, Any], change: dict[str, Any]) -> None:
    """Drop from `document` the keys that contradict `change`, because an override wins over the file.

    `data.path` and `data.dataset` exclude each other, as do `checkpoint` and the sections that train one, and a fixed
    `adapt` field and its dimension in `space`.
    """
    given, old = change.get("data"), document.get("data")
    if isinstance(given, dict) and isinstance(old, dict):
        for source, other in (("path", "dataset"), ("dataset", "path")):
            if given.get(source) is not None:
                old.pop(other, None)
    fixed, space = change.get("adapt"), document.get("space")
    if isinstance(fixed, dict) and isinstance(space, dict):
        options = fixed.get("gate_options")
        for key in (*fixed, *(f"gate_options.{name}" for name in (options if isinstance(options, dict) else ()))):
            space.pop(key, None)
    if change.get("checkpoint") is not None:
        document.pop("model", None)
        document.pop("train", None)


def _put(document: dict[str, Any], keys: Sequence[str], change: Any, text: str) -> None:
    for end, key in enumerate(keys[:-1], start=1):
        change = change[key]
        if document.get(key) is None:
            document[key] = {}
        if not isinstance(document[key], dict):
            raise UserError(f"--set {text}: {dotted(tuple(keys[:end]))} is {quoted(document[key])}, not a mapping")
        document = document[key]
    document[keys[-1]] = change[keys[-1]]


def _schema() -> Schema:
    """The JSON schema of the sections that training reads, and the bare names of the other top-level keys."""
    root: Node = _ADAPTER.json_schema()
    root["properties"] = {key: root["properties"].get(key, {"type": "string"}) for key in KEYS}
    return Schema(root)


_SEARCH_ONLY_KEYS = frozenset(KEYS) - {"data", "model", "train", "checkpoint"}
_ADAPTER: TypeAdapter[TrainingSpec] = TypeAdapter(TrainingSpec)
_SCHEMA = _schema()
