"""Optimizer moments and generators, taken out and put back."""

import json

import numpy as np
import pytest
import torch

from etarec.adapt.memory import Marks, Snapshot, generator_state, moments, named, restore_moments


def stepped(kind: type[torch.optim.Optimizer], options: dict, steps: int, start: torch.optim.Optimizer | None = None):
    weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizer = kind(weights, **options)
    for n in range(steps):
        weights[0].grad = torch.arange(3.0) + n  # the second one is never reached
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.999), "fused": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.0}),
    ],
)
def test_a_fresh_optimizer_with_the_moments_steps_alike(kind, options):
    whole = stepped(kind, options, 5)
    first, fresh = stepped(kind, options, 3), stepped(kind, options, 0)
    kept = named("moment", moments(first))
    restore_moments(fresh, Snapshot(kept, {}).part("moment"))
    old, new = (optimizer.param_groups[0]["params"][0] for optimizer in (first, fresh))
    with torch.no_grad():
        new.copy_(old)
    for n in (3, 4):
        new.grad = torch.arange(3.0) + n
        fresh.step()
    assert torch.equal(new, whole.param_groups[0]["params"][0])


def test_a_snapshots_parts_are_copies_under_their_own_names():
    weight = torch.ones(2)
    snapshot = Snapshot(named("weight", {"0": weight}) | named("weights", {"0": weight}), {})
    weight.zero_()
    assert [t.tolist() for t in snapshot.part("weight").values()] == [[1, 1]] and list(snapshot.part("weight")) == ["0"]


def test_a_generators_state_survives_json():
    generator = np.random.default_rng(3)
    generator.random(5)
    state = json.loads(json.dumps(generator_state(generator)))
    expected = generator.random(3).tolist()
    again = np.random.default_rng(9)
    again.bit_generator.state = state
    assert again.random(3).tolist() == expected


def test_blank_marks_know_nothing():
    marks = Marks.blank(2)
    assert marks.bits.tolist() == [0, 0] and np.isnan(marks.losses).all()
