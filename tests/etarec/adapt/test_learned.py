"""Counts of what was learned, and arithmetic by formula."""

import pytest
import torch

from etarec.adapt.learned import Learned
from etarec.config import AdaptConfig, ModelConfig
from etarec.models import build


def test_arithmetic_by_hand():
    model = build(ModelConfig(name="gru4rec", width=4, mlp_width=8), 11)
    P = sum(weight.numel() for name, weight in model.named_parameters() if name != "items.weight")
    learned = Learned(passes=2, tokens=7, outputs=3, shallow=5, every_tokens=20, every_outputs=6)
    every = 3 * (20 * P + 6 * 4 * 10)
    costs = learned.costs(model, AdaptConfig(filtered="output"), samples=10)
    assert costs["shallow_rate"] == 0.5 and costs["transitions_per_pass"] == 1.5
    assert costs["arithmetic"] == pytest.approx((3 * (7 * P + 3 * 4 * 10) + 2 * 5 * 4 * 10) / every)
    deeper = learned.costs(model, AdaptConfig(filtered="mlp"), 10)["arithmetic"] - costs["arithmetic"]
    assert deeper == pytest.approx(5 * 4 * 10 / every)
    drawn = learned.costs(model, AdaptConfig(filtered="output", shallow_negatives=3), 10)["arithmetic"]
    assert costs["arithmetic"] - drawn == pytest.approx(2 * 5 * 4 * (10 - 3) / every)
    assert learned.costs(model, AdaptConfig(filtered="output", shallow_negatives=99), 10) == costs
    assert Learned().costs(model, AdaptConfig(), 10) == {"shallow_rate": 0, "transitions_per_pass": 0, "arithmetic": 0}


@pytest.mark.parametrize("feedback", ["immediate", "next_request"])
@pytest.mark.parametrize("transitions", ["last", "pending"])
def test_adapting_on_every_sample_costs_everything(log, frozen, feedback, transitions):
    from literal_adapt import World

    torch.manual_seed(0)
    config = AdaptConfig(gate="open", feedback=feedback, transitions=transitions, new_transitions_only=False)
    costs = World(log, frozen).measure(config).costs
    assert costs["shallow_rate"] == 0
    assert costs["arithmetic"] == pytest.approx(1, rel=0.02 if transitions == "last" else 0.5)
