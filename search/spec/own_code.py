"""The classes of the user's own that an experiment names: whether they can be used, and the digests of their code."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from etarec.config import GATE_FIELDS, AdaptConfig, ModelConfig
from etarec.document_schema import Location
from etarec.experiment_file import Problem
from search.fields import SECTION, field_of, option_of
from search.spec.dimension import Dimension, Value
from search.spec.spec import Spec


def class_paths(spec: Spec) -> tuple[str, ...]:
    """The class paths of all models and gates of the experiment, each once; of a given checkpoint, its model's."""
    models = [model.class_path for _, model in _models(spec)]
    if spec.checkpoint is not None:
        from etarec.checkpoint import class_path  # it imports torch

        models.append(class_path(Path(spec.checkpoint)))
    gates = [config.own_gate for _, config in _gates(spec)]
    return tuple(dict.fromkeys(path for path in (*models, *gates) if path))


def sources(spec: Spec) -> dict[str, str]:
    """The digest of each source file of these classes' packages, by its path."""
    if not (paths := class_paths(spec)):
        return {}
    from etarec import own

    return {file: digest for path in paths for file, digest in own.sources(path).items()}


def problems(spec: Spec) -> Iterator[Problem]:
    """Classes that cannot be used, and options that they do not take."""
    models = [(place, model) for place, model in _models(spec) if model.class_path]
    gates = [(place, config) for place, config in _gates(spec) if config.own_gate]
    if not gates:
        yield from _options_without_gate(spec)
    yield from _without_effect(spec)
    if models or gates:
        yield from list(_unusable(spec, models, gates)) or _unlike_their_types(spec, gates)


def _models(spec: Spec) -> Iterator[tuple[Location, ModelConfig]]:
    yield ("model",), spec.model
    for number, row in enumerate(spec.table.rows if spec.table else ()):
        if row.model is not None:
            yield ("table", "rows", number, "model"), row.model


def _gates(spec: Spec) -> Iterator[tuple[Location, AdaptConfig]]:
    """The gates of the search, with the smallest and the largest value of each searched option, and of the table."""
    searched = {option: dimension for key, dimension in spec.space.items() if (option := option_of(key)) is not None}
    gates = [gate for gate in (spec.space["gate"].choices or ()) if ":" in str(gate)] if "gate" in spec.space else []
    for gate in gates or [spec.adapt.gate]:
        place: Location = ("space",) if gates else ("adapt",)
        base = dataclasses.replace(spec.adapt, gate=str(gate))
        middle = {**base.gate_options, **{option: dimension.middle() for option, dimension in searched.items()}}
        yield place, dataclasses.replace(base, gate_options=middle)
        for option, dimension in searched.items():
            for value in _ends(dimension):
                yield ("space", field_of(option)), dataclasses.replace(base, gate_options={**middle, option: value})
    for number, row in enumerate(spec.table.rows if spec.table else ()):
        if row.adapt is not None:
            yield ("table", "rows", number, "adapt"), row.adapt


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    return dimension.choices or (dimension.low, dimension.high)


def _options_without_gate(spec: Spec) -> Iterator[Problem]:
    expected = "expected adapt.gate: package.module:Class, whose options they are"
    if spec.adapt.gate_options:
        yield ("adapt", SECTION), f"the gate {spec.adapt.gate} has no options; {expected}"
    yield from ((("space", key), f"the gate has no options; {expected}") for key in spec.space if option_of(key))


def _without_effect(spec: Spec) -> Iterator[Problem]:
    """Searched fields of the product's own gate, where a gate of the user's own stands in its place."""
    gate, loss_by_entropy = spec.adapt.own_gate, not spec.adapt.learns_next_item or "objective" in spec.space
    if gate is None or "gate" in spec.space:
        return
    for key in spec.space.keys() & (GATE_FIELDS - {"gate", SECTION}):
        if not (key == "top_k" and loss_by_entropy):  # K of the entropy that such a loss minimises
            yield (
                ("space", key),
                f"it has no effect: the gate {gate} decides alone; expected {field_of('NAME')} instead",
            )


def _unusable(
    spec: Spec, models: list[tuple[Location, ModelConfig]], gates: list[tuple[Location, AdaptConfig]]
) -> Iterator[Problem]:
    from etarec import models as architectures  # they import torch
    from etarec import own_gate
    from etarec.own import UnusableError

    told = set()
    checks = [
        *(partial(architectures.check, model, place) for place, model in models),
        *(partial(own_gate.check, config, place) for place, config in gates),
    ]
    for check in checks:
        try:
            check()
        except UnusableError as error:
            if error.problem not in told:
                yield _shown(error.place, spec), error.problem
            told.add(error.problem)


def _shown(place: Location, spec: Spec) -> Location:
    """The key at fault as the file has it: a searched option is `space.gate_options.NAME`."""
    key = field_of(str(place[-1]))
    return ("space", key) if SECTION in place and key in spec.space else place


def _unlike_their_types(spec: Spec, gates: list[tuple[Location, AdaptConfig]]) -> Iterator[Problem]:
    """Options that are numbers with a point in the class, searched among integers."""
    from etarec import own

    for key, dimension in spec.space.items():
        option = option_of(key)
        for path in {config.own_gate for _, config in gates if config.own_gate}:
            declared: Mapping[str, Any] = getattr(getattr(own.load(path, ()), "Options", None), "__annotations__", {})
            if option and dimension.kind == "int" and declared.get(option) in (float, "float"):
                yield ("space", key), f"given integers, expected numbers with a point, such as {dimension.low}.0"
