"""Dropout is on in passes that learn, off in all others, and repeatable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from literal_adapt import World
from watched import ALWAYS, GATED, WEIGHTS

from etarec.adapt.dropout import LearningDropout
from etarec.config import AdaptConfig


def test_a_block_draws_its_own_numbers_and_leaves_torch_s_where_they_were() -> None:
    layer, values = torch.nn.Dropout(0.9).eval(), torch.ones(1000)
    dropout = LearningDropout(layer, 0.25, np.random.default_rng(3))
    before = torch.get_rng_state()
    with dropout.on():
        first = layer(values)
    with dropout.on():
        second = layer(values)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(layer(values), values)
    assert 200 < (first == 0).sum() < 300 and not torch.equal(first, second)
    with LearningDropout(layer, 0.25, np.random.default_rng(3)).on():
        assert torch.equal(layer(values), first)


def test_dropout_is_off_and_the_optimizer_fresh(world: World) -> None:
    config = AdaptConfig(**WEIGHTS, **GATED)
    expected = world.measure(config)
    model = world.model()
    model.dropout.p = 0.5
    model.train()
    assert np.array_equal(world.measure(config, model).ranks, expected.ranks)
    for name, tensor in world.model().state_dict().items():
        model.state_dict()[name].copy_(tensor)
    again = world.measure(config, model)  # a momentum that was kept would show
    assert np.array_equal(again.ranks, expected.ranks) and np.array_equal(again.admitted, expected.admitted)


@pytest.mark.parametrize("objective", ["next_item", "entropy"])
def test_dropout_is_on_in_learning_passes_only(world: World, objective: str, monkeypatch) -> None:
    seen: list[tuple[bool, bool, float]] = []
    forward = torch.nn.Dropout.forward

    def recording(layer, x):
        seen.append((torch.is_grad_enabled(), layer.training, layer.p))
        return forward(layer, x)

    monkeypatch.setattr(torch.nn.Dropout, "forward", recording)
    config = AdaptConfig(**WEIGHTS, **ALWAYS, objective=objective, dropout=0.25)
    first, again, other = (world.measure(config, seed=seed).ranks.tolist() for seed in (1, 1, 2))
    assert {(True, True, 0.25)} == {each for each in seen if each[0]}
    assert not any(training for grad, training, _ in seen if not grad)
    assert first == again != other
    assert first != world.measure(replace(config, dropout=0.0), seed=1).ranks.tolist()
