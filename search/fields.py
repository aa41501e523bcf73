"""The searched fields: those of AdaptConfig, and `gate_options.NAME`, the options of a gate of the user's own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etarec.config import GATE_FIELDS, AdaptConfig

SECTION = "gate_options"
_PREFIX = f"{SECTION}."


def option_of(field: str) -> str | None:
    """The option's name in a searched field `gate_options.NAME`; None for a field of AdaptConfig."""
    return field.removeprefix(_PREFIX) if field.startswith(_PREFIX) else None


def field_of(option: str) -> str:
    """The searched field of an option of the user's gate."""
    return f"{_PREFIX}{option}"


def value_of(config: AdaptConfig, field: str) -> Any:
    """The field's value in a configuration; None for an option that it does not give."""
    option = option_of(field)
    return getattr(config, field) if option is None else config.gate_options.get(option)


def with_values(config: AdaptConfig, values: Mapping[str, Any]) -> AdaptConfig:
    """The configuration with other values of searched fields. Raises ValueError if they make no legal one."""
    options = {option: value for field, value in values.items() if (option := option_of(field)) is not None}
    fields = {field: value for field, value in values.items() if option_of(field) is None}
    if options:
        fields[SECTION] = {**config.gate_options, **options}
    return dataclasses.replace(config, **fields)


def of_gate(field: str) -> bool:
    """Whether the field belongs to the gate, which admits samples; the other fields say how the model adapts."""
    return field in GATE_FIELDS or option_of(field) is not None
