"""Target `state` against a literal loop: one sample per forward, and the inner loop for admitted samples only."""

import numpy as np
import pytest
import torch
from literal_adapt import World, rank_of, scores_of
from watched import ALWAYS, GATED, NEVER, Work

from etarec.config import AdaptConfig
from etarec.ttt import WITHOUT_INNER_LOOP, InnerOptions


@pytest.mark.parametrize(
    "fields",
    [
        {**GATED},
        {**GATED, "weighting": "none", "admit": "uncertain"},
        {**GATED, "top_k": None, "average_over": "all"},
        {**GATED, "min_admitted": 0.4},
    ],
    ids=str,
)
@torch.no_grad()
def test_target_state_is_the_literal_loop(world: World, fields: dict, literal_gate) -> None:
    config = AdaptConfig(target="state", batch_size=32, **fields)
    model, gate, samples, ranks, admitted = world.model(), literal_gate(config), world.samples(), [], []
    for start in range(0, len(samples), config.batch_size):
        batch = list(zip(samples.users, samples.positions, strict=True))[start : start + config.batch_size]
        plain = [scores_of(model, world.inputs(*sample), inner=WITHOUT_INNER_LOOP) for sample in batch]
        verdicts = gate.judge(np.stack([z.numpy() for z in plain]), np.zeros(len(batch), bool))
        for n, (sample, verdict, scores) in enumerate(zip(batch, verdicts, plain, strict=True)):
            if verdict == "admitted":
                scale = torch.tensor([gate.weights[n]], dtype=torch.float64)
                scores = scores_of(model, world.inputs(*sample), inner=InnerOptions(scale))
            ranks.append(rank_of(scores, world.target(*sample)))
        admitted += [verdict == "admitted" for verdict in verdicts]
    measured = world.measure(config)
    assert measured.ranks.tolist() == ranks
    assert measured.admitted.tolist() == admitted
    assert 0 < sum(admitted) < len(admitted)


@torch.no_grad()
def test_the_two_ends_are_the_full_pass_and_the_pass_without_the_inner_loop(world: World) -> None:
    model, samples = world.model(), world.samples()
    pairs = list(zip(samples.users, samples.positions, strict=True))
    full = [rank_of(scores_of(model, world.inputs(*pair)), world.target(*pair)) for pair in pairs]
    plain = [
        rank_of(scores_of(model, world.inputs(*pair), inner=WITHOUT_INNER_LOOP), world.target(*pair)) for pair in pairs
    ]
    assert full != plain
    assert world.measure(AdaptConfig(target="state", **ALWAYS)).ranks.tolist() == full
    assert world.measure(AdaptConfig(target="state", **NEVER)).ranks.tolist() == plain


def test_the_inner_loop_runs_for_the_admitted_samples_only(world: World, monkeypatch) -> None:
    work = Work(monkeypatch)
    measured = world.measure(AdaptConfig(target="state", batch_size=32, **GATED))
    samples = world.samples()
    ends = world.log.offsets[samples.users] + samples.positions
    assert 0 < measured.admitted.sum() < len(samples)
    assert work.ends(inner_loop=True) == sorted(ends[measured.admitted].tolist())
    assert work.backward == 0 and work.ends(graph=True) == []
    work.encoded.clear()
    world.measure(AdaptConfig(target="state", **NEVER))
    assert work.ends(inner_loop=True) == []
