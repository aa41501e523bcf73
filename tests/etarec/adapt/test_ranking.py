"""The batches that target `weights` only serves: which passes and losses they take, and when they need none."""

import numpy as np
import pytest
from literal_adapt import World
from watched import AT_REQUEST, BY_LOSS, GATED, NEVER, WEIGHTS, Work

from etarec import scoring
from etarec.config import AdaptConfig, Reason
from etarec.gate import Gate


def test_a_gate_that_admits_nobody_serves_the_model_as_it_was_trained(world: World) -> None:
    as_trained = world.measure(AdaptConfig(target="none"))
    assert np.array_equal(world.measure(AdaptConfig(**WEIGHTS, **NEVER)).ranks, as_trained.ranks)


def test_a_loss_gate_asks_for_no_loss_twice(world: World, monkeypatch) -> None:
    """The losses of what was served are known; those of transitions before the stream come out of the pass that
    serves, and the first batch has a pass of its own."""
    work = Work(monkeypatch)
    config = AdaptConfig(**WEIGHTS, **BY_LOSS, **AT_REQUEST, weighting="none", transitions="pending")
    measured = world.measure(config)
    batches = -(-len(measured.ranks) // 32)
    assert batches > 2 and len([ends for graph, _, ends in work.encoded if not graph]) == 1 + batches
    ends = work.ends(graph=False)
    assert len(ends) == len(set(ends)) > len(measured.ranks) > measured.admitted.sum() > 0


PASSING = [
    {**GATED},
    {**GATED, "min_admitted": 0.5, "serve": "after", **AT_REQUEST, "batch_size": 7},
    {**GATED, "average_over": "all"},
    {**GATED, "top_k": None},
    {**GATED, "calibrate": "each_batch", "transitions": "pending"},
    {**GATED, "entropy_threshold": 1.0},
    {**BY_LOSS, "weighting": "none"},
    {**BY_LOSS, "weighting": "none", "calibrate": "each_batch", "average_over": "all"},
    {"gate": "random"},
]


@pytest.mark.parametrize("fields", PASSING, ids=str)
def test_a_gate_that_ignores_batches_decides_as_one_that_looks_at_all(log, frozen, fields: dict, monkeypatch):
    """A batch with nothing to learn needs no Top-K, unless the gate takes E0 or m from it."""
    config, scan, asked = AdaptConfig(**{**WEIGHTS, **AT_REQUEST, "batch_size": 8, **fields}), scoring.scan, list[int]()
    monkeypatch.setattr(
        scoring, "scan", lambda h, v, t, top_k, *rest: (asked.append(top_k), scan(h, v, t, top_k, *rest))[1]
    )
    world = World(log, frozen, "valid")  # whose first samples have nothing that is not trained on
    found, passing = world.measure(config), asked.count(0)
    asked.clear()
    monkeypatch.setattr(Gate, "ignores", lambda *_: False)
    expected = world.measure(config)
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    np.testing.assert_array_equal(found.admitted, expected.admitted)
    assert np.array_equal(found.reasons, expected.reasons) and (found.reasons == Reason.NOTHING_TO_LEARN).sum() > 16
    looks_at_top_k = config.gate == "eta" and config.average_over == "admitted" and config.top_k is not None
    assert (passing > asked.count(0)) == looks_at_top_k
