"""Overrides from the command line: `--set key.path=value`."""

from typing import Any

import yaml

from etarec.config import UserError
from etarec.document import Loader, parse_yaml, quoted
from etarec.document_schema import Schema, dotted


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
    node: Any = yaml.compose(text, Loader=Loader)
    rest = text[node.end_mark.index if node else 0 :].strip()
    if not rest.startswith("#"):
        return value
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.style):
        return text.strip()
    raise UserError(f"{source}: given {quoted(rest)} after the value, expected nothing there, or quotes around it all")
