"""The Fisher diagonal against a literal loop, and the penalty that it weights."""

import pytest
import torch
from literal_adapt import CPU, World, literal_fisher

from etarec.adapt.fisher import diagonal
from etarec.encode import Encoder


@pytest.mark.parametrize("samples", [1, 20, 10**6])
def test_it_is_the_mean_squared_gradient_over_the_drawn_samples(world: World, samples: int) -> None:
    found, expected = diagonal(world.model(), Encoder(world.log, CPU), samples), literal_fisher(world, samples)
    assert found.keys() == expected.keys() and not found["items.weight"].is_sparse
    for name, squares in expected.items():
        torch.testing.assert_close(found[name], squares, rtol=1e-8, atol=1e-14, msg=name)
    assert all((squares > 0).any() for squares in found.values())
