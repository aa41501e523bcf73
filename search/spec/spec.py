"""A whole experiment as a validated object.

Ranges and defaults live in the dataclasses only; error messages are made from their JSON schema.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from etarec.config import AdaptConfig, DataConfig, ModelConfig, TrainConfig
from etarec.document import quoted, to_text
from search.baselines import NAMES, BaselineName
from search.spec.dimension import Dimension
from search.spec.section import STRICT, SearchConfig
from search.spec.table_rows import TableConfig


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w([\w. -]{0,98}[\w-])?", name):
        raise ValueError(
            f"given {quoted(name)}, expected the name of a folder: at most 100 letters, digits, '_', '-', '.' and "
            "spaces, starting with a letter, digit or '_' and not ending with '.' or a space"
        )
    return name


def _distinct(names: tuple[BaselineName, ...]) -> tuple[BaselineName, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"given {quoted(names)}, expected each baseline once")
    return names


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Spec:
    """A whole experiment. Paths are absolute; searched fields have their defaults in `adapt`."""

    name: Annotated[str, AfterValidator(_folder_name)] = Field(description="folder under runs/, MLflow experiment")
    data: DataConfig = Field(default_factory=lambda: DataConfig(dataset="simulated"), description="interactions")
    checkpoint: str | None = Field(default=None, description="trained model file, instead of `model` and `train`")
    model: ModelConfig = Field(default_factory=ModelConfig, description="architecture")
    train: TrainConfig = Field(default_factory=TrainConfig, description="training of the checkpoint")
    adapt: AdaptConfig = Field(default_factory=AdaptConfig, description="fixed fields of adaptation and gate")
    space: Annotated[dict[str, Dimension], Field(min_length=1)] = Field(description="searched fields of AdaptConfig")
    search: SearchConfig = Field(default_factory=SearchConfig, description="how to search")
    baselines: Annotated[tuple[BaselineName, ...], AfterValidator(_distinct)] = Field(
        default=NAMES, description="fixed configurations to compare with"
    )
    table: TableConfig | None = Field(default=None, description="rows of `python -m search.table`")


def as_dict(spec: Spec) -> dict[str, Any]:
    """The resolved experiment as plain data; loading it again (see `to_yaml`) gives an equal Spec."""
    document: dict[str, Any] = ADAPTER.dump_python(spec, mode="json", by_alias=True)
    unused = ("model", "train") if spec.checkpoint is not None else ("checkpoint",)
    for key in (*unused, *(("table",) if spec.table is None else ())):
        del document[key]
    del document["data"]["path" if spec.data.path is None else "dataset"]
    for section in (document, *((document.get("table") or {}).get("rows", ()))):
        if section.get("model"):
            section["model"] = _written_model(section["model"])
    always_searched = {key for key, dimension in spec.space.items() if not dimension.when}
    document["adapt"] = {key: value for key, value in document["adapt"].items() if key not in always_searched}
    if not spec.adapt.gate_options:
        del document["adapt"]["gate_options"]
    for key, dimension in spec.space.items():
        written = ("choices",) if dimension.choices is not None else ("low", "high", "log", "step")
        condition = ("when",) if dimension.when else ()
        document["space"][key] = {name: document["space"][key][name] for name in (*written, *condition)}
    return document


def _written_model(model: dict[str, Any]) -> dict[str, Any]:
    """The keys that describe a model: a class of the user's own and its options, or an architecture and its sizes."""
    own = {key: model[key] for key in ("class", "options")}
    return own if model["class"] else {key: value for key, value in model.items() if key not in own}


def to_yaml(spec: Spec) -> str:
    """`as_dict` as the text of an experiment file."""
    return to_text(as_dict(spec))


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, because MLflow stores a nested parameter as one string."""
    flattened: dict[str, Any] = {}
    for key, value in document.items():
        inner = isinstance(value, Mapping)
        flattened |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flattened


ADAPTER: TypeAdapter[Spec] = TypeAdapter(Spec)
