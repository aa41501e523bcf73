"""Legal ranges: what is inside is accepted, what is outside is refused with the field's name."""

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


@pytest.mark.parametrize("given", [{}, {"dataset": "simulated", "path": "log.csv"}])
def test_data_come_from_exactly_one_source(given):
    with pytest.raises(ValidationError, match="exactly one of"):
        DataConfig(**given)
    assert DataConfig(path="log.csv").dataset is None


def test_shares_must_leave_something_to_train_on():
    with pytest.raises(ValidationError, match="must leave a share for training"):
        replace(SIMULATED, valid_share=0.5, test_share=0.5)
    assert replace(SIMULATED, valid_share=0.5, test_share=0.49).test_share == 0.49


@pytest.mark.parametrize(("width", "heads"), [(64, 3), (64, 64), (66, 4)])
def test_heads_divide_the_width_into_even_parts(width, heads):
    with pytest.raises(ValidationError, match="expected a multiple of 2 x heads"):
        ModelConfig(width=width, heads=heads)
    assert ModelConfig(width=64, heads=32).heads == 32


def test_the_published_settings_are_those_of_the_papers():
    model, train = ModelConfig(), TrainConfig()
    assert (model.width, model.heads, model.blocks, model.mini_batch, model.mlp_width) == (64, 4, 1, 8, 256)
    assert (model.inner, model.inner_rate, model.rope_base) == ("mlp", 1.0, 1000.0)
    assert (train.learning_rate, train.epochs, train.patience, train.dropout) == (1e-3, 300, 5, 0.2)
    gate = AdaptConfig.published(10, target="state", entropy_quantile=0.9, gate="open")
    assert (gate.gate, gate.top_k, gate.entropy_quantile, gate.cosine_threshold) == ("eta", 10, 0.5, 0.3)
    assert gate.target == "state"
    assert AdaptConfig.published().top_k == 50


def test_attention_heads_divide_the_width():
    ModelConfig(name="sasrec", width=66, heads=2)
    with pytest.raises(ValidationError, match="width: given 66, expected a multiple of heads, which is 4"):
        ModelConfig(name="sasrec", width=66)


def test_a_field_that_the_model_does_not_have_is_refused():
    with pytest.raises(ValidationError, match="gru4rec has no heads; expected one of blocks, mlp_width, name, width"):
        ModelConfig(name="gru4rec", heads=2)
    with pytest.raises(ValidationError, match="ttt4rec has no state_size"):
        ModelConfig(state_size=16)


def test_an_episodic_adapter_serves_after_adapting():
    AdaptConfig(reset="batch", serve="after", feedback="next_request")
    with pytest.raises(ValidationError, match="reset: batch needs serve: after"):
        AdaptConfig(reset="batch")


@pytest.mark.parametrize("fields", [{"rehearsal_share": 0.2}, {"rehearsal_share": 0.5}, {"rehearsal_share": 0.1}])
def test_a_rehearsal_holds_more_out_than_validation_and_leaves_something_to_train(fields):
    assert DataConfig(dataset="simulated", rehearsal_share=0.35).rehearsal_share == 0.35
    with pytest.raises(ValidationError, match="rehearsal_share must lie between valid_share and 1 - test_share"):
        DataConfig(dataset="simulated", **fields)
    with pytest.raises(ValidationError, match="rehearsal_share needs split: ratio"):
        DataConfig(dataset="simulated", split="leave_one_out", rehearsal_share=0.35)


def test_the_loss_of_what_is_learned_judges_only_where_something_is_learned():
    AdaptConfig(criterion="loss")
    AdaptConfig(criterion="loss", target="none", objective="entropy")
    for other in ({"target": "state"}, {"objective": "entropy"}):
        with pytest.raises(ValidationError, match="criterion: loss needs target: weights with objective: next_item"):
            AdaptConfig(criterion="loss", **other)
    published = AdaptConfig.published(criterion="loss", calibrate="each_batch")
    assert (published.criterion, published.calibrate) == ("entropy", "first_batch")


def test_a_batch_is_not_ranked_by_a_model_that_learned_its_targets():
    with pytest.raises(ValidationError, match="serve: after with objective: next_item needs feedback: next_request"):
        AdaptConfig(serve="after")
    assert AdaptConfig(serve="after", objective="entropy").feedback == "immediate"


def test_the_corrected_likelihood_needs_a_gate_by_loss():
    with pytest.raises(ValidationError, match="correction: selection needs criterion: loss"):
        AdaptConfig(correction="selection")


@pytest.mark.parametrize("target", ["weights", "state", "none"])
@pytest.mark.parametrize("objective", ["next_item", "entropy"])
def test_only_target_weights_with_next_item_learns_transitions(target, objective):
    config = AdaptConfig(target=target, objective=objective)
    assert config.learns_next_item == ((target, objective) == ("weights", "next_item"))


@pytest.mark.parametrize(
    "path",
    [
        "s3://AKIA:hunter2@bucket/log.csv",
        "https://ada:hunter2@host/log.csv",
        "https://ada:hunter/2@host:80/log.csv",
        "https://host/log.csv?access_token=hunter2",
        "https://host/log.csv?a=1&X-Amz-Signature=hunter2",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(path: str) -> None:
    with pytest.raises(ValueError, match="given an address with a password or token") as caught:
        DataConfig(path=path)
    assert "hunter" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "path",
    [
        "/home/a:b@c/log.csv?key=1",
        "s3://bucket/log.csv",
        "https://host:80/a@b.csv",
        "https://host/log.csv?version=3",
        "abfs://box@account.net/log.csv",
    ],
)
def test_other_paths_and_addresses_are_accepted(path: str) -> None:
    assert DataConfig(path=path).path == path
