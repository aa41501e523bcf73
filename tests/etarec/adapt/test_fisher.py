"""The Fisher diagonal against a literal loop, and the penalty that it weights."""

import pytest
import torch
from literal_adapt import CPU, World, literal_fisher
from watched import ALWAYS, WEIGHTS

from etarec.adapt.fisher import diagonal
from etarec.config import AdaptConfig
from etarec.encode import Encoder


@pytest.mark.parametrize("samples", [1, 20, 10**6])
def test_it_is_the_mean_squared_gradient_over_the_drawn_samples(world: World, samples: int) -> None:
    found, expected = diagonal(world.model(), Encoder(world.log, CPU), samples), literal_fisher(world, samples)
    assert found.keys() == expected.keys() and not found["items.weight"].is_sparse
    for name, squares in expected.items():
        torch.testing.assert_close(found[name], squares, rtol=1e-8, atol=1e-14, msg=name)
    assert all((squares > 0).any() for squares in found.values())


def test_the_stronger_the_penalty_the_nearer_the_weights_stay_where_it_counts(world: World) -> None:
    """By the Fisher-weighted distance that it is on; the distance of weights that mattered nothing is free."""
    squares, distances = literal_fisher(world, 10**6), []
    for strength in (0.0, 10.0, 1000.0):
        model = world.model()
        config = AdaptConfig(**WEIGHTS, **ALWAYS, fisher_alpha=strength, fisher_samples=10**6)
        world.measure(config, model)
        start = dict(world.model().named_parameters())
        moved = {name: weight.detach() - start[name].detach() for name, weight in model.named_parameters()}
        distances.append(float(sum((squares[name] * moved[name].square()).sum() for name in moved)))
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 0


def test_the_fisher_diagonal_leaves_the_model_as_it_was(world: World) -> None:
    model = world.model()
    model.items.weight.requires_grad_(False)
    diagonal(model, Encoder(world.log, CPU), 5)
    assert not model.items.weight.requires_grad and model.output_norm.weight.requires_grad
    for name, weight in world.model().state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=0)
