"""Keys and values that a document may have, in words, read from its JSON schema."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

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


def dotted(location: Location) -> str:
    """A location as text: `("search", "objectives", 0)` gives `search.objectives[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


class Schema:
    """The keys and values that each location of a document may have, read from the document's JSON schema."""

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
