"""The values of all configurations: ranges, unknown fields, and a meaning for each field."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from pydantic import ValidationError

from etarec.config import AdaptConfig, ColumnsConfig, DataConfig, ModelConfig, SimulationConfig, TrainConfig

SIMULATED = DataConfig(dataset="simulated")


ILLEGAL = [
    (AdaptConfig(), "target", "both"),
    (AdaptConfig(), "objective", "bpr"),
    (AdaptConfig(), "parameters", "none"),
    (AdaptConfig(), "optimizer", "lion"),
    (AdaptConfig(), "serve", "during"),
    (AdaptConfig(), "gate", "naive"),
    (AdaptConfig(), "admit", "all"),
    (AdaptConfig(), "average_over", "none"),
    (AdaptConfig(), "weighting", "linear"),
    (AdaptConfig(), "learning_rate", 0.0),
    (AdaptConfig(), "learning_rate", float("inf")),
    (AdaptConfig(), "learning_rate", float("nan")),
    (AdaptConfig(), "momentum", 1.0),
    (AdaptConfig(), "momentum", -0.1),
    (AdaptConfig(), "batch_size", 0),
    (AdaptConfig(), "batch_size", 2.5),
    (AdaptConfig(), "top_k", 0),
    (AdaptConfig(), "top_k", "50"),
    (AdaptConfig(), "top_k", True),
    (AdaptConfig(), "entropy_quantile", 1.01),
    (AdaptConfig(), "entropy_quantile", float("nan")),
    (AdaptConfig(), "entropy_threshold", -0.1),
    (AdaptConfig(), "cosine_threshold", -0.1),
    (AdaptConfig(), "min_admitted", 1.5),
    (AdaptConfig(), "random_rate", 2),
    (AdaptConfig(), "new_transitions_only", 1),
    (ModelConfig(), "name", "gpt4rec"),
    (ModelConfig(), "width", 0),
    (ModelConfig(), "blocks", 0),
    (ModelConfig(), "inner", "conv"),
    (ModelConfig(), "mini_batch", 0),
    (ModelConfig(), "inner_rate", 0.0),
    (ModelConfig(), "rope_base", -1.0),
    (TrainConfig(), "epochs", 0),
    (TrainConfig(), "patience", 0),
    (TrainConfig(), "dropout", 1.0),
    (TrainConfig(), "skip_rate", 1.1),
    (TrainConfig(), "window_stride", 0),
    (TrainConfig(), "negatives", 1),
    (TrainConfig(), "seed", 2**31),
    (TrainConfig(), "seed", -1),
    (SIMULATED, "dataset", "movielens"),
    (SIMULATED, "k_core", -1),
    (SIMULATED, "split", "random"),
    (SIMULATED, "order", "reverse"),
    (SIMULATED, "max_length", 0),
    (SimulationConfig(), "items", 19),
    (SimulationConfig(), "users", 0),
]


@pytest.mark.parametrize(("config", "name", "value"), ILLEGAL)
def test_illegal_values_are_refused_by_name(config, name, value):
    with pytest.raises(ValidationError) as error:
        replace(config, **{name: value})
    assert [problem["loc"][0] for problem in error.value.errors()] == [name] * error.value.error_count()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("top_k", [1, 10**6, None]),
        ("entropy_quantile", [0, 0.0, 1, 1.0]),
        ("entropy_threshold", [None, 0.0, 9.3]),
        ("cosine_threshold", [0.0, 1.0]),
        ("momentum", [0.0, 0.99]),
        ("min_admitted", [0.0, 1.0]),
    ],
)
def test_bounds_are_legal(name, values):
    assert [getattr(replace(AdaptConfig(), **{name: value}), name) for value in values] == values


@pytest.mark.parametrize("kind", [AdaptConfig, ModelConfig, TrainConfig, SimulationConfig, ColumnsConfig])
def test_unknown_fields_are_refused_and_configurations_frozen(kind):
    with pytest.raises((ValidationError, TypeError)):
        kind(no_such_field=1)
    config = kind()
    with pytest.raises(FrozenInstanceError):
        setattr(config, fields(config)[0].name, 1)


@pytest.mark.parametrize("config", [AdaptConfig(), ModelConfig(), TrainConfig(), SIMULATED, SimulationConfig()])
def test_every_hyperparameter_says_what_it_means(config):
    for field in type(config).__pydantic_fields__.values():
        assert field.description
