"""The weights that a step moves: the chosen ones, by the optimizer's rule, and back again."""

import pytest
import torch
from literal_adapt import World
from watched import ALWAYS, AT_REQUEST, WEIGHTS

from etarec.adapt.memory import Snapshot
from etarec.adapt.moving_weights import MovingWeights
from etarec.config import AdaptConfig


@pytest.mark.parametrize(("group", "moved"), [("projections", "qkvo"), ("body", None), ("all", None)])
def test_only_the_chosen_weights_move(world: World, group: str, moved: str | None) -> None:
    model = world.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    world.measure(AdaptConfig(**WEIGHTS, **ALWAYS, parameters=group), model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    expected = {name for name in before if moved is None or name.split(".")[-2] in moved}
    assert changed == expected - ({"items.weight"} if group == "body" else set())
    assert (model.items.weight[0] == 0).all()


def test_an_episodic_adapter_ends_where_it_began(world: World) -> None:
    model = world.model()
    world.measure(AdaptConfig(**WEIGHTS, **ALWAYS, **AT_REQUEST, serve="after", reset="batch"), model)
    for name, weight in world.model().state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=0)


def test_a_step_follows_the_gradient_of_loss_and_penalty(world: World) -> None:
    """Plain gradient descent by hand: the penalty pulls back from where the second step begins."""
    config = AdaptConfig(optimizer="sgd", momentum=0.0, learning_rate=0.1, fisher_alpha=0.5, parameters="projections")
    model = world.model()
    moving = MovingWeights(model, config, lambda: {n: torch.full_like(w, 3.0) for n, w in model.named_parameters()})
    (weight, *_), start = moving.weights, moving.weights[0].detach().clone()
    for _ in range(2):
        moving.step(weight.sum())
    # The first step moves by 0.1; the second one's gradient is 1 - 2 * 0.5 * 3 * 0.1.
    torch.testing.assert_close(weight.detach(), start - 0.1 - 0.1 * 0.7)


def test_restored_weights_step_as_those_of_the_snapshot(world: World) -> None:
    config = AdaptConfig(learning_rate=0.1)
    first, second = (MovingWeights(world.model(), config, dict) for _ in range(2))
    first.step(first.weights[0].square().sum())
    second.restore(Snapshot(first.tensors(), {}))
    for moving in (first, second):
        moving.step(moving.weights[0].square().sum())
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
