"""Classes of the user's own, named `package.module:Class` in an experiment file: their import, options and code.

Such a class may have a dataclass `Options` as an attribute. The options of the file are then checked against its fields
and handed over as an instance of it, otherwise as a namespace.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from etarec.config import UserError
from etarec.document import quoted
from etarec.document_schema import Location, Schema, dotted

CODE = (".py", ".c", ".h", ".so")  # suffixes of the files on which a class's results may depend


class UnusableError(UserError):
    """A class of the user's own, or one of its options, that cannot be used: `place` is the key at fault."""

    def __init__(self, place: Location, problem: str):
        super().__init__(place, problem)  # as it is pickled, on its way from a worker
        self.place, self.problem = place, problem

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {self.problem}"


def load(path: str, place: Location) -> type:
    """The class that `package.module:Class` names. Raises UnusableError if there is none."""
    module_name, _, name = path.partition(":")
    if module_name == "__main__":
        raise UnusableError(place, f"given {path}, expected a class in a module that other processes can import")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs code of the user's
        reason = f"{type(error).__name__}: {error}"
        expected = "expected a module that can be imported here, see PYTHONPATH"
        raise UnusableError(
            place, f"given {path}, but {module_name} cannot be imported ({reason}); {expected}"
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        given = f"{module_name} has no class {name}" if found is None else f"{name} is no class"
        raise UnusableError(place, f"given {path}, but {given}; expected package.module:Class")
    _refuse_stale(path, place)
    return found


def _refuse_stale(path: str, place: Location) -> None:
    """Worker processes import the files as they are now: code that this process imported before must be the same."""
    now = digest(path)
    if _IMPORTED.setdefault(path, now) != now:
        raise UnusableError(place, f"the code of {path} has changed since this process imported it; expected a restart")


_IMPORTED: dict[str, str] = {}  # by class path: the digest of its code when it was first loaded


def options_of(cls: type, given: Mapping[str, Any], place: Location) -> Any:
    """The options as the class takes them. Raises UnusableError, which names the option, if they are not legal."""
    own = getattr(cls, "Options", None)
    if own is None:
        return SimpleNamespace(**given)
    if not (isinstance(own, type) and dataclasses.is_dataclass(own)):
        raise UnusableError(place, f"{cls.__name__}.Options is no dataclass, expected one")
    adapter = TypeAdapter(own)
    schema = Schema(adapter.json_schema())
    for name in given:
        if name not in schema.keys(()):
            raise UnusableError((*place, name), schema.unknown((name,)))
    try:
        return adapter.validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise UnusableError(*_translated(error.errors()[0], schema, place)) from error


def _translated(error: Any, schema: Schema, place: Location) -> tuple[Location, str]:
    at = schema.known_part(error["loc"])
    if error["type"] == "value_error":
        return (*place, *at), str(error["ctx"]["error"])
    given = "missing" if error["type"] == "missing" else f"given {quoted(error['input'])}"
    return (*place, *at), f"{given}, expected {schema.expected(at)}"


def package(path: str) -> Path:
    """The folder of the top-level package, or the file of the top-level module, that holds the class."""
    spec = importlib.util.find_spec(path.partition(":")[0].partition(".")[0])
    assert spec is not None  # `load` has imported it
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0] if folders else str(spec.origin))


def sources(path: str) -> dict[str, str]:
    """The digest of each source file of the class's top-level package, by its path from the package's parent."""
    root = package(path)
    files = sorted(file for file in root.rglob("*") if file.suffix in CODE) if root.is_dir() else [root]
    return {
        file.relative_to(root.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files
    }


def digest(path: str) -> str:
    """One short digest of all `sources`."""
    return hashlib.sha256(repr(sorted(sources(path).items())).encode()).hexdigest()[:12]
