"""YAML documents written by users, read strictly: YAML 1.2 values, no duplicate keys, one message for a fault."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from etarec.config import UserError

_MAX_FILE_BYTES = 2**20
_MAX_DEPTH = 50  # levels of lists and mappings; libraries that get the data follow them by recursion


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises UserError if the file cannot be read or holds no mapping; for bad YAML it names the line and the column.
    """
    try:
        content = path.read_bytes() if path.stat().st_size <= _MAX_FILE_BYTES else None
        text = None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected a YAML file in UTF-8, given other bytes at offset {error.start}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if text is None:
        raise UserError(f"{path}: expected a YAML file, given more than {_MAX_FILE_BYTES >> 20} MiB")
    document = parse_yaml(text, str(path))
    if not isinstance(document, dict):
        given = "nothing" if document is None else quoted(document)
        raise UserError(f"{path}: given {given}, expected a mapping of keys, at least `space`")
    return document


def parse_yaml(text: str, source: str) -> Any:
    """The data in a YAML text. Raises UserError, whose message begins with `source`, if the text is not valid YAML."""
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not valid"
        hint = " (indent YAML with spaces, not tabs)" if "'\\t'" in problem else ""
        raise UserError(f"{source}: {where}not valid YAML: {problem}{hint}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None


def to_text(document: dict[str, Any]) -> str:
    """YAML text from which `parse_yaml` reads the same data."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


def quoted(value: Any) -> str:
    """A value as JSON for a message, shortened to 60 characters; "a mapping" for any mapping."""
    if isinstance(value, dict):
        return "a mapping"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Loader(yaml.SafeLoader):
    """YAML 1.2 scalars (1e-3 is a number; on, off, yes, no and dates are text), no duplicate keys, no anchors."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - declared so by PyYAML's type stubs
    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    depth = 0  # of the node that is being composed

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None):
            problem = f"given the anchor or alias {event.anchor}, expected its value written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            problem = f"nested too deeply, expected at most {_MAX_DEPTH} levels"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def mapping(self, node: Any) -> dict[str, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "given a list or a mapping as a key, expected text"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if key.value in lines:
                problem = f"duplicate key {key.value}, expected it once; first given in line {lines[key.value]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def number(self, node: Any) -> int | float:
        text = node.value.lower()
        return int(text) if node.tag.endswith("int") else float(text.replace(".inf", "inf").replace(".nan", "nan"))

    def text(self, node: Any) -> str:
        node.value.encode()  # an escaped lone surrogate raises ValueError here; otherwise writing the text would fail
        return str(node.value)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the texts that `Loader` would not read as text."""

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


_CONSTRUCTORS: dict[str, Callable[[Any, Any], Any]] = {
    "null": lambda loader, node: None,
    "bool": lambda loader, node: node.value.lower() == "true",
    "int": Loader.number,
    "float": Loader.number,
    "str": Loader.text,
    "seq": lambda loader, node: [loader.construct_object(child, deep=True) for child in node.value],
    "map": Loader.mapping,
}
_SCALAR_PATTERNS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


def _checked(name: str) -> Callable[[Any, Any], Any]:
    """The constructor of a tag. A file may put a tag before any value, such as `!!seq 3` or `!!bool maybe`."""
    construct = _CONSTRUCTORS[name]
    kind = {"seq": yaml.SequenceNode, "map": yaml.MappingNode}.get(name, yaml.ScalarNode)
    pattern = re.compile(rf"(?:{_SCALAR_PATTERNS.get(name, ('(?s:.*)',))[0]})\Z")

    def constructed(loader: Any, node: Any) -> Any:
        if not isinstance(node, kind) or (kind is yaml.ScalarNode and not pattern.match(node.value)):
            problem = f"the tag !!{name} does not fit its value, expected the value without a tag"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return construct(loader, node)

    return constructed


_UNDEFINED: Callable[[Any, Any], Any] = Loader.construct_undefined
Loader.add_constructor(None, _UNDEFINED)
for _name in _CONSTRUCTORS:
    Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _checked(_name))
for _name, (_pattern, _first) in _SCALAR_PATTERNS.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
