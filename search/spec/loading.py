"""Reading an experiment file: `load` applies `--set` and checks everything before anything is trained."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etarec.document import read_yaml
from etarec.document_schema import Schema, dotted
from etarec.experiment_file import ExperimentFile, Problem
from search.fields import SECTION, field_of, option_of
from search.spec import own_code, table_rows
from search.spec.dimension import complete, form_problems
from search.spec.schema import file_schema
from search.spec.space import problems as space_problems
from search.spec.spec import ADAPTER, Spec


def load(path: Path, overrides: Sequence[str] = ()) -> Spec:
    """Read and validate an experiment file.

    Relative paths in the file start at the file's folder, those in an override at the current folder.

    Args:
        path: of the file.
        overrides: the texts `key.path=value` of `--set`; the last one wins, and `space.KEY=null` takes a field out of
            the search.

    Raises:
        UserError: every problem, one per line: `FILE: key.path: what was given, what was expected`.
    """
    file = ExperimentFile(path, overrides, _SCHEMA)
    document = file.document
    _name_options(file)
    _take_out_of_search(file)
    _keep_fixed_fields_as_search(file)
    document.setdefault("name", re.sub(r"[^\w.-]+", "-", path.stem)[:100].strip(".-") or "search")
    problems = {**dict(table_rows.problems(document)), **dict(_relation_problems(document))}
    spec = file.validated(ADAPTER, table_rows.merged(_with_kinds(document)), problems)
    file.refuse(dict([*space_problems(spec.space, spec.adapt), *_grid_problems(spec), *_choice_problems(spec)]))
    file.refuse(dict(own_code.problems(spec)))
    return spec


def _name_options(file: ExperimentFile) -> None:
    """Give options in the space, which `--set space.gate_options.NAME...` writes as a mapping, their fields' names."""
    space = file.document.get("space")
    if isinstance(space, dict) and isinstance(nested := space.get(SECTION), dict):
        del space[SECTION]
        for option, form in nested.items():
            old = space.get(key := field_of(option))
            space[key] = {**old, **form} if isinstance(old, dict) and isinstance(form, dict) else form
            if form is None:
                del space[key]


def _take_out_of_search(file: ExperimentFile) -> None:
    """Remove the fields that `--set space.KEY=null` names; null for a field in the file is a mistake."""
    space = file.document.get("space")
    for keys, _ in file.origins:
        if keys[:-1] == ("space",) and isinstance(space, dict) and space.get(keys[1], 0) is None:
            del space[keys[1]]


def _keep_fixed_fields_as_search(file: ExperimentFile) -> None:
    """Where `--set adapt.KEY=value` fixes all searched fields, search them with these values as their only choices."""
    if file.document.get("space") == {}:
        searched = read_yaml(file.path).get("space") or {}
        given = (dotted(keys[1:]) for keys, _ in file.origins if keys[0] == "adapt")
        fixed = [key for key in given if key in searched]
        adapt = file.document.get("adapt", {})
        file.document["space"] = {key: {"choices": [_taken(adapt, key)]} for key in dict.fromkeys(fixed)}


def _taken(adapt: dict[str, Any], field: str) -> Any:
    option = option_of(field)
    return adapt.pop(field) if option is None else adapt[SECTION].pop(option)


def _relation_problems(document: dict[str, Any]) -> Iterator[Problem]:
    """Problems of the relations between sections, and of the searched fields."""
    section = {key: value if isinstance(value, dict) else {} for key, value in document.items()}
    space, fixed = section.get("space", {}), section.get("adapt", {})
    if document.get("checkpoint") is not None and ("model" in document or "train" in document):
        yield ("checkpoint",), "it replaces `model` and `train`; keep either the checkpoint or those sections"
    if not document.get("space"):
        yield ("space",), "missing or empty, expected searched fields such as {top_k: {low: 2, high: 500, log: true}}"
    if fixed.get("target") == "none":
        yield ("adapt", "target"), "given none, which adapts nothing, so nothing in `space` has an effect"
    if "entropy_quantile" in space and fixed.get("entropy_threshold") is not None:
        yield (
            ("space", "entropy_quantile"),
            "it has no effect: adapt.entropy_threshold fixes E0; keep one of them",
        )
    for key, form in space.items():
        yield from _dimension_problems(key, form, fixed)


def _dimension_problems(key: str, form: Any, fixed: dict[str, Any]) -> Iterator[Problem]:
    options = fixed.get(SECTION)
    given = fixed.keys() | {field_of(option) for option in (options if isinstance(options, dict) else ())}
    if not _is_searchable(key):
        yield ("space", key), _SCHEMA.unknown(("space", key))
    elif key in given and not (isinstance(form, dict) and form.get("when")):  # with a condition: its value elsewhere
        yield ("space", key), f"it is also fixed as adapt.{key}; keep one of them"
    elif isinstance(form, dict):
        if "kind" in form:
            yield ("space", key, "kind"), _SCHEMA.unknown(("space", key, "kind"))
        for place, text in form_problems(key, form):
            yield ("space", key, *place), text


def _is_searchable(key: str) -> bool:
    return key != SECTION and (key in _SCHEMA.keys(("space",)) or option_of(key) is not None)


def _grid_problems(spec: Spec) -> Iterator[Problem]:
    for key, dimension in spec.space.items():
        if spec.search.sampler == "grid" and not dimension.values():
            yield (
                ("space", key),
                "search.sampler: grid needs `step` or `choices` in every dimension; this one has neither",
            )


def _choice_problems(spec: Spec) -> Iterator[Problem]:
    choose = spec.search.choose
    if spec.search.until == "converged" and spec.search.sampler != "auto":
        yield ("search", "until"), f"given converged, expected search.sampler: auto, given {spec.search.sampler}"
    if choose.rule == "constraint" and not spec.search.constraints:
        yield ("search", "choose", "rule"), "given constraint, expected search.constraints beside it"
    if not any(choose.weights):
        yield ("search", "choose", "weights"), "given only zeros, expected a weight above 0"


def _with_kinds(document: dict[str, Any]) -> dict[str, Any]:
    """The document for pydantic: known dimensions are completed, unknown ones, already reported, are left out."""
    space = document.get("space")
    if not isinstance(space, dict) or not space:
        return document
    known = {key: form for key, form in space.items() if _is_searchable(key)}
    ready = {key: complete(key, form) if isinstance(form, dict) else form for key, form in known.items()}
    return {**document, "space": ready}


_SCHEMA = Schema(file_schema())
