"""The YAML experiment file as a validated object.

`load` reads the file, applies `--set`, checks everything and returns a frozen `Spec`; all problems end in one
UserError. Ranges and defaults live in the dataclasses only; error messages are made from their JSON schema.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from etarec.config import (
    OPENING_FIELDS,
    AdaptConfig,
    Count,
    DataConfig,
    ModelConfig,
    NonNegative,
    Positive,
    SeedInt,
    Share,
    TrainConfig,
    UserError,
)
from etarec.document import Node, Schema, quoted, read_yaml, to_text
from etarec.experiment_file import ExperimentFile, Problem
from etarec.metrics import QUALITY_METRICS, QualityMetric
from search import table_rows
from search.baselines import NAMES, PUBLISHED_TOP_K, BaselineName
from search.dimension import Dimension, Value, complete, form_problems
from search.space import acts, settled
from search.space import problems as space_problems
from search.table_rows import TableConfig

if TYPE_CHECKING:
    from etarec.data import Interactions  # it imports pandas, which an error message can do without

_STRICT = ConfigDict(extra="forbid", strict=True)

Objective = Literal[QualityMetric, "filter_rate"]
SamplerName = Literal["auto", "tpe", "gp", "nsga2", "sobol", "random", "grid"]


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w([\w. -]{0,98}[\w-])?", name):
        raise ValueError(
            f"given {quoted(name)}, expected the name of a folder: at most 100 letters, digits, '_', '-', '.' and "
            "spaces, starting with a letter, digit or '_' and not ending with '.' or a space"
        )
    return name


def _quality_and_filter_rate(objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
    if len(objectives) != 2 or objectives.count("filter_rate") != 1:
        expected = f"filter_rate and one of {', '.join(QUALITY_METRICS)}"
        raise ValueError(f"given {quoted(objectives)}, expected two: {expected}")
    return objectives


def _distinct(names: tuple[BaselineName, ...]) -> tuple[BaselineName, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"given {quoted(names)}, expected each baseline once")
    return names


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ChooseConfig:
    """How one configuration is chosen from the front."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.005, description="share of the best quality that may be given up for a higher filter rate"
    )
    min_filter_rate: Share = Field(default=0.0, description="smallest filter rate to choose, where a point reaches it")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SearchConfig:
    """How the search runs; except for `seed`, no field changes the measurement of a configuration."""

    trials: Count = Field(default=64, description="number of configurations to measure")
    seed: SeedInt = Field(default=0, description="seed of the sampler and, with its configuration, of each trial")
    objectives: Annotated[tuple[Objective, ...], AfterValidator(_quality_and_filter_rate)] = Field(
        default=("hr_at_10", "filter_rate"), description="what is maximised: one quality metric and the filter rate"
    )
    sampler: SamplerName = Field(
        default="auto",
        description="what suggests configurations; auto: a Gaussian process and the expected gain of the front's area, "
        "beyond 200 results `tpe` that avoids what is worse than no adaptation; grid: all values in turn; the others "
        "are Optuna's",
    )
    concurrency: Count | Literal["auto"] = Field(
        default="auto", description="trials at the same time; auto: as many as the resources allow"
    )
    cpus_per_trial: Positive | Literal["auto"] = Field(
        default="auto", description="CPU cores of a trial, and its threads; auto: from the machine alone"
    )
    gpus_per_trial: NonNegative | Literal["auto"] = Field(
        default="auto", description="GPUs of a trial; below 1, trials share a GPU; auto: as memory and cores allow"
    )
    cuda_mps: bool = Field(
        default=True,
        description="run trials side by side on a GPU by CUDA's Multi-Process Service, where the machine has it; "
        "otherwise trials take turns on the GPU",
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="choice from the front")
    random_points: Annotated[int, Field(ge=0, le=100)] = Field(
        default=8, description="rates of random skipping along the front, beside the baseline `random`; 0: none"
    )
    bootstrap_replicates: Count = Field(
        default=2000, description="bootstrap resamples of the users for each interval on test"
    )
    max_failures_in_a_row: Count = Field(
        default=10, description="stop the search after this many failed trials in a row"
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2, description="repetitions of a trial whose process or node died, or whose memory ran out"
    )
    trial_timeout: Positive | None = Field(default=None, description="seconds after which a trial fails")

    @property
    def quality(self) -> QualityMetric:
        """The objective beside the filter rate."""
        return quality_of(self.objectives)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
    _take_out_of_search(file)
    _keep_fixed_fields_as_search(file)
    document.setdefault("name", re.sub(r"[^\w.-]+", "-", path.stem)[:100].strip(".-") or "search")
    problems = {**dict(table_rows.problems(document)), **dict(_relation_problems(document))}
    spec = file.validated(_ADAPTER, table_rows.merged(_with_kinds(document)), problems)
    file.refuse(dict([*space_problems(spec.space, spec.adapt), *_grid_problems(spec)]))
    return spec


def as_dict(spec: Spec) -> dict[str, Any]:
    """The resolved experiment as plain data; loading it again (see `to_yaml`) gives an equal Spec."""
    document: dict[str, Any] = _ADAPTER.dump_python(spec, mode="json")
    unused = ("model", "train") if spec.checkpoint is not None else ("checkpoint",)
    for key in (*unused, *(("table",) if spec.table is None else ())):
        del document[key]
    del document["data"]["path" if spec.data.path is None else "dataset"]
    always_searched = {key for key, dimension in spec.space.items() if not dimension.when}
    document["adapt"] = {key: value for key, value in document["adapt"].items() if key not in always_searched}
    for key, dimension in spec.space.items():
        written = ("choices",) if dimension.choices is not None else ("low", "high", "log", "step")
        condition = ("when",) if dimension.when else ()
        document["space"][key] = {name: document["space"][key][name] for name in (*written, *condition)}
    return document


def to_yaml(spec: Spec) -> str:
    """`as_dict` as the text of an experiment file."""
    return to_text(as_dict(spec))


def quality_of(objectives: Sequence[str]) -> QualityMetric:
    """The quality metric among the objectives of a search."""
    return next(metric for metric in QUALITY_METRICS if metric in objectives)


def objectives_of(search: SearchConfig, metrics: Mapping[str, float]) -> tuple[float, ...]:
    """The objectives' values among a trial's metrics, in the order of `search.objectives`."""
    return tuple(metrics[name] for name in search.objectives)


def canonical(config: AdaptConfig) -> str:
    """A configuration as JSON with sorted keys; equal configurations have equal texts."""
    return json.dumps(asdict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)


def trial_seed(seed: int, config: AdaptConfig) -> int:
    """The seed of a measurement, 0 to 2^31 - 1, from the search's seed and the configuration alone."""
    digest = hashlib.sha256(f"{seed}:{canonical(config)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_config(spec: Spec, parameters: dict[str, Any]) -> AdaptConfig:
    """The configuration of one trial. Raises ValueError unless `parameters` are the searched fields, all of them."""
    if parameters.keys() != spec.space.keys():
        raise ValueError(f"expected values for {sorted(spec.space)}, given {sorted(parameters)}")
    return replace(spec.adapt, **parameters)


def first_points(spec: Spec) -> list[dict[str, Any]]:
    """Parameters of the first trials of every search.

    These are the gates of the ETA-Rec report (K = 10 and K = 50), and the gate opened as far as the space allows, which
    is the end of the front next to adapting on every sample. Points outside the space are left out. Other searched
    fields have AdaptConfig's default, or the middle of their dimension.
    """
    gates = [_published_gate(top_k) for top_k in PUBLISHED_TOP_K]
    opened = {key: _opened(spec, key) for key in OPENING_FIELDS if key in spec.space}
    gates += [opened] if opened else []
    points: list[dict[str, Any]] = []
    for gate in gates:
        values = {key: gate[key] if key in gate else _neutral(key, dim) for key, dim in spec.space.items()}
        point = settled(spec.space, spec.adapt, values)
        if point not in points and all(dim.contains(values[key]) for key, dim in spec.space.items()):
            points.append(point)
    return points


def neutral_config(spec: Spec) -> AdaptConfig:
    """The configuration in which every searched field has AdaptConfig's default, or the middle of its dimension."""
    values = {key: _neutral(key, dimension) for key, dimension in spec.space.items()}
    return replace(spec.adapt, **settled(spec.space, spec.adapt, values))


def check_something_to_learn(spec: Spec, data: "Interactions") -> None:
    """Raise UserError if no validation sample can be adapted on, which would make all trials equal."""
    adapt = spec.adapt
    learns = adapt.learns_next_item and adapt.new_transitions_only and adapt.feedback == "next_request"
    searched = {"target", "objective", "new_transitions_only", "transitions", "feedback"} & spec.space.keys()
    if learns and not searched and int((data.valid_end - data.train_end).max()) <= 1:
        raise UserError(
            "adapt.new_transitions_only: given true, but every validation sample ends in a transition of the training "
            "data, since no user has two validation samples; expected false, or adapt.feedback: immediate, or "
            "data.split: ratio with a rehearsal_share"
        )


def check_against_data(spec: Spec, n_items: int) -> None:
    """Raise UserError, which names the key, if a trial's K can exceed the catalogue (`n_items`, without padding)."""
    searched = spec.space.get("top_k")
    values = [spec.adapt.top_k] if searched is None else [searched.high, *(searched.choices or ())]
    largest = max((value for value in values if isinstance(value, int)), default=0)
    place = "adapt.top_k" if searched is None else f"space.top_k.{'high' if searched.high else 'choices'}"
    check_top_k(place, largest, n_items)


def check_top_k(key: str, top_k: int, n_items: int) -> None:
    """Raise UserError, which names the key, if K exceeds the catalogue (`n_items`, without padding)."""
    if top_k > n_items:
        raise UserError(f"{key}: given {top_k}, expected at most {n_items}, the number of items in the catalogue")


def check_measured(spec: Spec, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError, which names field and trial, if the study of a resumed search could not hold a measured trial.

    A range may have become narrower: the study accepts values outside it.

    Args:
        spec: of the resumed search.
        measured: the trials' parameters by their ids.
    """
    for trial_id, parameters in measured.items():
        for key, dimension in spec.space.items():
            value = parameters.get(key)
            if dimension.contains(value) or not acts(dimension, spec.adapt, parameters):
                continue
            if dimension.choices is not None or value is None:
                raise UserError(
                    f"space.{key}: {trial_id} was measured with {quoted(value)}, expected a space that contains it, "
                    "because the study of a resumed search holds all its trials"
                )


def _published_gate(top_k: int) -> dict[str, Any]:
    """The searched values of the published gate."""
    published = asdict(AdaptConfig.published(top_k))
    return {key: published[key] for key in ("top_k", "entropy_quantile", "cosine_threshold")}


def _opened(spec: Spec, key: str) -> Value:
    """The value with which the gate admits the most."""
    dimension = spec.space[key]
    if key == "cosine_threshold" and dimension.contains(None):  # null: no test of redundancy
        return None
    values = [value for value in dimension.choices or (dimension.low, dimension.high) if value is not None]
    turned = key == "entropy_quantile" and spec.adapt.admit == "uncertain"
    return min(values) if turned else max(values)


def _neutral(key: str, dimension: Dimension) -> Value:
    default: Value = getattr(AdaptConfig(), key)
    return default if dimension.contains(default) else dimension.middle()


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
        fixed = [keys[1] for keys, _ in file.origins if keys[0] == "adapt" and keys[1:2] and keys[1] in searched]
        adapt = file.document.get("adapt", {})
        file.document["space"] = {key: {"choices": [adapt.pop(key)]} for key in dict.fromkeys(fixed)}


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
    if key not in _SCHEMA.keys(("space",)):
        yield ("space", key), _SCHEMA.unknown(("space", key))
    elif key in fixed and not (isinstance(form, dict) and form.get("when")):  # with a condition: its value elsewhere
        yield ("space", key), f"it is also fixed as adapt.{key}; keep one of them"
    elif isinstance(form, dict):
        if "kind" in form:
            yield ("space", key, "kind"), _SCHEMA.unknown(("space", key, "kind"))
        for place, text in form_problems(key, form):
            yield ("space", key, *place), text


def _grid_problems(spec: Spec) -> Iterator[Problem]:
    for key, dimension in spec.space.items():
        if spec.search.sampler == "grid" and not dimension.values():
            yield (
                ("space", key),
                "search.sampler: grid needs `step` or `choices` in every dimension; this one has neither",
            )


def _with_kinds(document: dict[str, Any]) -> dict[str, Any]:
    """The document for pydantic: known dimensions are completed, unknown ones, already reported, are left out."""
    space = document.get("space")
    if not isinstance(space, dict) or not space:
        return document
    known = {key: form for key, form in space.items() if key in _SCHEMA.keys(("space",))}
    ready = {key: complete(key, form) if isinstance(form, dict) else form for key, form in known.items()}
    return {**document, "space": ready}


def _schema() -> Schema:
    """The JSON schema of a file: in `space` the fields of AdaptConfig, in a dimension no `kind`."""
    root: Node = _ADAPTER.json_schema()
    del root["$defs"]["Dimension"]["properties"]["kind"]
    fields = root["$defs"]["AdaptConfig"]["properties"]
    root["$defs"]["Dimension"]["properties"]["when"] = {"type": "object", "properties": fields}
    dimensions = {key: {"$ref": "#/$defs/Dimension"} for key in fields}
    root["properties"]["space"] = {"type": "object", "properties": dimensions}
    return Schema(root)


_ADAPTER: TypeAdapter[Spec] = TypeAdapter(Spec)
_SCHEMA = _schema()


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, because MLflow stores a nested parameter as one string."""
    flattened: dict[str, Any] = {}
    for key, value in document.items():
        inner = isinstance(value, Mapping)
        flattened |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flattened
