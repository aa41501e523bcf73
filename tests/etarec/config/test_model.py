"""The sizes of models that fit together, and the fields that each model has."""

import pytest
from pydantic import ValidationError

from etarec.config import ModelConfig


@pytest.mark.parametrize(("width", "heads"), [(64, 3), (64, 64), (66, 4)])
def test_heads_divide_the_width_into_even_parts(width, heads):
    with pytest.raises(ValidationError, match="expected a multiple of 2 x heads"):
        ModelConfig(width=width, heads=heads)
    assert ModelConfig(width=64, heads=32).heads == 32


def test_attention_heads_divide_the_width():
    ModelConfig(name="sasrec", width=66, heads=2)
    with pytest.raises(ValidationError, match="width: given 66, expected a multiple of heads, which is 4"):
        ModelConfig(name="sasrec", width=66)


def test_a_field_that_the_model_does_not_have_is_refused():
    with pytest.raises(ValidationError, match="gru4rec has no heads; expected one of blocks, mlp_width, name, width"):
        ModelConfig(name="gru4rec", heads=2)
    with pytest.raises(ValidationError, match="ttt4rec has no state_size"):
        ModelConfig(state_size=16)


def test_the_default_sizes_are_those_of_the_paper():
    model = ModelConfig()
    assert (model.width, model.heads, model.blocks, model.mini_batch, model.mlp_width) == (64, 4, 1, 8, 256)
    assert (model.inner, model.inner_rate, model.rope_base) == ("mlp", 1.0, 1000.0)
