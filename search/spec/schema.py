"""The JSON schema of an experiment file, made from the dataclasses: the source of messages, and of help in editors."""

import json
from typing import Any

from etarec.document_schema import Node
from search.fields import SECTION
from search.spec.spec import ADAPTER

_DIMENSION = {"$ref": "#/$defs/Dimension"}


def file_schema() -> Node:
    """The schema of a file: in `space` the fields of AdaptConfig, in a dimension no `kind`."""
    root: Node = ADAPTER.json_schema()
    del root["$defs"]["Dimension"]["properties"]["kind"]
    fields = root["$defs"]["AdaptConfig"]["properties"]
    root["$defs"]["Dimension"]["properties"]["when"] = {"type": "object", "properties": fields}
    dimensions: dict[str, Node] = {key: dict(_DIMENSION) for key in fields}
    dimensions[SECTION] = {"type": "object", "additionalProperties": _DIMENSION}
    options = {rf"{SECTION}\.": _DIMENSION}
    root["properties"]["space"] = {"type": "object", "properties": dimensions, "patternProperties": options}
    return root


def editor_schema() -> Node:
    """The schema by which an editor completes and checks a file. It accepts every file that `load` accepts."""
    root = file_schema()
    fields, dimension = root["$defs"]["AdaptConfig"]["properties"], root["$defs"]["Dimension"]
    del dimension["required"]  # `kind` alone
    dimension["properties"]["when"]["properties"] = {key: _one_or_several(key) for key in fields}
    space = root["properties"]["space"]
    space |= {"description": "searched fields of `adapt`", "additionalProperties": False}
    for key, node in space["properties"].items():
        node["description"] = fields[key]["description"]
    root["properties"] = {key: _optional(node) for key, node in root["properties"].items()}
    root["required"] = ["space"]  # `name` comes from the file's name
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "description": "An experiment file of etarec"}
    return {**_without_titles(root), **about}


def as_text() -> str:
    """The content of `spec.schema.json`."""
    return json.dumps(editor_schema(), indent=1, ensure_ascii=False) + "\n"


def _one_or_several(key: str) -> Node:
    """A condition gives one value of another field, or a list of them."""
    field = {"$ref": f"#/$defs/AdaptConfig/properties/{key}"}
    return {"anyOf": [field, {"type": "array", "items": field}]}


def _optional(section: Node) -> Node:
    """A section whose keys are all commented out is null."""
    if "$ref" not in section:
        return section
    return {"anyOf": [{"$ref": section["$ref"]}, {"type": "null"}], "description": section["description"]}


def _without_titles(node: Any) -> Any:
    """The schema without the titles that pydantic makes of the fields' names."""
    if isinstance(node, list):
        return [_without_titles(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_titles(one) for key, one in node.items() if key != "title" or not isinstance(one, str)}
