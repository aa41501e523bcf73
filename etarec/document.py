"""YAML documents written by users: strict reading, `--set` overrides, and messages derived from a JSON schema."""

import difflib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from etarec.config import UserError

_MAX_FILE_BYTES = 2**20
_MAX_DEPTH = 50  # levels of lists and mappings; libraries that get the data follow them by recursion
_RANGE_WORDS = {
    ("minimum", "maximum"): "from {} to {}",
    ("minimum", "exclusiveMaximum"): "from {} to below {}",
    ("minimum",): "at least {}",
    ("exclusiveMinimum",): "above {}",
}
_TYPE_WORDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}

Location = tuple[str | int, ...]
Node = dict[str, Any]


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
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
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


def dotted(location: Location) -> str:
    """A location as text: `("search", "objectives", 0)` gives `search.objectives[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


class Schema:
    """Which keys and values each location of a document may have, read from the document's JSON schema."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def node(self, location: Location) -> Node | None:
        """The schema of the value at `location`, or None if the document has no such location."""
        node: Node | None = self.root
        for part in location:
            node = next(self._steps(node, part), None) if node is not None else None
        return node

    def known_part(self, location: Location) -> Location:
        """The longest prefix of `location` that exists; pydantic's locations end with the names of union members."""
        return next(location[:end] for end in range(len(location), -1, -1) if self.node(location[:end]) is not None)

    def keys(self, location: Location) -> list[str]:
        """The keys that a mapping at `location` may have; empty if `location` holds a single value."""
        node = self.node(location)
        return [key for member in self._members(node) for key in member.get("properties", ())] if node else []

    def is_open(self, location: Location) -> bool:
        """Whether a mapping at `location` may have any key."""
        node = self.node(location)
        return node is not None and any(self._free(member) for member in self._members(node))

    def expected(self, location: Location) -> str:
        """The type and range of a value at `location`, in words."""
        node = self.node(location)
        words = [self._words(member) for member in self._members(node)] if node else []
        if "a number" in words and "an integer" in words:
            words.remove("an integer")
        return " or ".join(words)

    def unknown(self, location: Location) -> str:
        """The message for the unknown key at the end of `location`, with the most similar known keys."""
        key, keys = str(location[-1]), self.keys(location[:-1])
        near = difflib.get_close_matches(key, keys, n=1) or [known for known in keys if key in known.split("_")]
        elsewhere = [f"{section}.{key}" for section in self.root["properties"] if key in self.keys((section,))]
        guesses = near or (elsewhere if len(location) == 1 else [])
        hint = f"; did you mean {' or '.join(guesses)}?" if guesses else ""
        return f"unknown key{hint} (known here: {', '.join(keys)})"

    def _steps(self, node: Node, part: str | int) -> Iterator[Node]:
        for member in self._members(node):
            named = member.get("properties", {}).get(part) or self._alike(member, part) or self._free(member)
            found = member.get("items") if isinstance(part, int) else named
            if found is not None:
                yield found

    def _alike(self, member: Node, part: str | int) -> Node | None:
        """The schema of a mapping's keys that match a pattern, which have no names of their own."""
        patterns = member.get("patternProperties", {}).items()
        return next((node for pattern, node in patterns if re.match(pattern, str(part))), None)

    def _free(self, member: Node) -> Node | None:
        """The schema of every value of a mapping that may have any key; None for another value."""
        free = member.get("additionalProperties")
        return free if isinstance(free, dict) and "properties" not in member else None

    def _members(self, node: Node) -> Iterator[Node]:
        if "$ref" in node:
            node = self.root["$defs"][node["$ref"].rsplit("/", 1)[1]]
        for member in node.get("anyOf", ()):
            yield from self._members(member)
        if "anyOf" not in node:
            yield node

    def _words(self, node: Node) -> str:
        if "const" in node or "enum" in node:
            values = node.get("enum", [node.get("const")])
            return ("one of " if len(values) > 1 else "") + ", ".join(values)
        if node["type"] == "array":
            return "a list" + (f", each {self._words(node['items'])}" if "enum" in node["items"] else "")
        if node["type"] == "object" and "properties" not in node:
            return "a mapping of names to values"
        if node["type"] == "object":
            return f"a mapping with keys of: {', '.join(node.get('properties', ()))}"
        if "examples" in node:
            return f"text such as {node['examples'][0]}"
        bounds = next((bounds for bounds in _RANGE_WORDS if all(bound in node for bound in bounds)), ())
        extent = " " + _RANGE_WORDS[bounds].format(*(node[bound] for bound in bounds)) if bounds else ""
        return _TYPE_WORDS[node["type"]] + extent


def parse_override(text: str, schema: Schema) -> tuple[tuple[str, ...], Any]:
    """The keys and the value of an override `key.path=value`.

    Raises UserError if the text has another form or `schema` has no such key; the message lists the keys that exist.
    """
    path, equals, value = text.partition("=")
    keys = tuple(part.strip() for part in path.split("."))
    source = f"--set {text}"
    if not equals or not value.strip():
        raise UserError(f"{source}: expected key.path=value" + (" (null for no value)" if equals else ""))
    if not all(keys):
        raise UserError(f"{source}: empty key, expected key.path=value with keys of: {', '.join(schema.keys(()))}")
    for end, key in enumerate(keys):
        if schema.is_open(keys[:end]):
            continue
        if not (known := schema.keys(keys[:end])):
            single, expected = dotted(keys[:end]), schema.expected(keys[:end])
            raise UserError(f"{source}: {single} has no keys, expected {single}=VALUE with {expected}")
        if key not in known:
            raise UserError(f"{source}: {dotted(keys[: end + 1])}: {schema.unknown(keys[: end + 1])}")
    return keys, _value(value, source)


def _value(text: str, source: str) -> Any:
    """The value of an override: YAML in which `#` begins no comment, since nobody annotates a command line."""
    value = parse_yaml(text, source)
    if "#" not in text:
        return value
    node: Any = yaml.compose(text, Loader=_Loader)
    rest = text[node.end_mark.index if node else 0 :].strip()
    if not rest.startswith("#"):
        return value
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.style):
        return text.strip()
    raise UserError(f"{source}: given {quoted(rest)} after the value, expected nothing there, or quotes around it all")


class _Loader(yaml.SafeLoader):
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
    """Quotes exactly the texts that `_Loader` would not read as text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


_CONSTRUCTORS: dict[str, Callable[[Any, Any], Any]] = {
    "null": lambda loader, node: None,
    "bool": lambda loader, node: node.value.lower() == "true",
    "int": _Loader.number,
    "float": _Loader.number,
    "str": _Loader.text,
    "seq": lambda loader, node: [loader.construct_object(child, deep=True) for child in node.value],
    "map": _Loader.mapping,
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


_UNDEFINED: Callable[[Any, Any], Any] = _Loader.construct_undefined
_Loader.add_constructor(None, _UNDEFINED)
for _name in _CONSTRUCTORS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _checked(_name))
for _name, (_pattern, _first) in _SCALAR_PATTERNS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
