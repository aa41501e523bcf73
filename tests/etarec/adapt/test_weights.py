"""Target `weights` against a literal loop: one sample per forward, torch's own losses, one optimizer step per batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from literal_adapt import CPU, LiteralWeights, World
from small_models import BERT4REC, GRU4REC, MAMBA4REC, SASREC, hidden_with_constant_branches, model_of
from torch.nn import functional as F
from watched import ALWAYS, AT_ONCE, AT_REQUEST, BY_LOSS, GATED, NEVER, WEIGHTS, Work

from etarec import adapt
from etarec.clock import Clock
from etarec.config import AdaptConfig, Reason, UserError
from etarec.encode import Encoder

SELECTED = {**BY_LOSS, "weighting": "none", "correction": "selection"}
VARIANTS = [
    {**ALWAYS, **AT_ONCE},
    {**ALWAYS, **AT_REQUEST},
    {**GATED, "transitions": "pending", **AT_ONCE},
    {"gate": "random", "random_rate": 0.6, "transitions": "pending", **AT_REQUEST},
    {"gate": "random", "filtered": "output", **AT_ONCE},
    {"gate": "random", "filtered": "residual", "transitions": "pending", "batch_size": 16, **AT_ONCE},
    {"gate": "random", "filtered": "mlp", "transitions": "pending", **AT_ONCE},
    {"gate": "random", "filtered": "mlp", "random_rate": 1.0, **AT_ONCE},
    {"gate": "random", "filtered": "mlp", "shallow_negatives": 10**6, **AT_ONCE},  # draws every item: the whole softmax
    {
        "gate": "random",
        "filtered": "residual",
        "transitions": "pending",
        "fisher_alpha": 30.0,
        "fisher_samples": 20,
        **AT_ONCE,
    },
    {"gate": "random", "filtered": "output", "transitions": "pending", **AT_REQUEST},
    {"gate": "random", "filtered": "residual", **AT_REQUEST, "new_transitions_only": False},
    {"gate": "random", "filtered": "mlp", "transitions": "pending", **AT_REQUEST, "batch_size": 9},
    {**GATED, "filtered": "mlp", "transitions": "pending", **AT_ONCE},
    {**SELECTED, **AT_ONCE},
    {**SELECTED, "calibrate": "each_batch", "transitions": "pending", "filtered": "residual", **AT_ONCE},
    {
        **SELECTED,
        "entropy_quantile": 0.63,
        "admit": "uncertain",
        "transitions": "pending",
        **AT_REQUEST,
    },  # no ties at E0
    {**SELECTED, "admit": "uncertain", "calibrate": "each_batch", **AT_ONCE},
    {**SELECTED, "calibrate": "each_batch", "filtered": "residual", "batch_size": 16, **AT_ONCE},
    {**GATED},
    {**GATED, "new_transitions_only": False, "parameters": "projections"},
    {**GATED, "serve": "after", **AT_REQUEST, "parameters": "body", "optimizer": "sgd"},
    {**GATED, "admit": "uncertain", "average_over": "all", "momentum": 0.0, "top_k": None},
    {**GATED, "weighting": "none", "min_admitted": 0.5, "batch_size": 7},
    {**GATED, "weighting": "clamped", "min_admitted": 0.3, "refill": "each_test", "cosine_threshold": 0.5},
    {"gate": "random", "random_rate": 0.4},
    {"objective": "entropy", **ALWAYS, "optimizer": "sgd", "top_k": 5},
    {"objective": "entropy", **GATED, "serve": "after", "parameters": "projections"},
    {"objective": "entropy", **GATED, "top_k": None},
    {**ALWAYS, "transitions": "pending"},
    {**GATED, "transitions": "pending", "new_transitions_only": False, "serve": "after", **AT_REQUEST, "batch_size": 9},
    {"gate": "random", "random_rate": 0.6, "transitions": "pending"},
    {**BY_LOSS, "weighting": "none"},
    {**BY_LOSS, "weighting": "none", "calibrate": "each_batch", "transitions": "pending", "batch_size": 16},
    {**BY_LOSS, "weighting": "none", "cosine_threshold": None},
    {**GATED, "cosine_threshold": None},
    {**BY_LOSS, "weighting": "none", "admit": "uncertain", "calibrate": "each_batch", "serve": "after", **AT_REQUEST},
    {**ALWAYS, "fisher_alpha": 30.0, "fisher_samples": 20},
    {"objective": "entropy", **GATED, "fisher_alpha": 300.0, "parameters": "projections", "optimizer": "sgd"},
    {**GATED, "serve": "after", **AT_REQUEST, "reset": "batch"},
    {"objective": "entropy", **GATED, "serve": "after", "reset": "batch", "momentum": 0.5},
]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_target_weights_is_the_literal_loop(world: World, fields: dict, literal_gate) -> None:
    config = AdaptConfig(**{**WEIGHTS, **fields})
    literal = LiteralWeights(world, config, literal_gate(config), seed=11)
    samples, ranks, verdicts = world.samples(), [], []
    for start in range(0, len(samples), config.batch_size):
        batch = slice(start, start + config.batch_size)
        served = literal.serve(samples.users[batch], samples.positions[batch])
        ranks += served[0]
        verdicts += served[1]
    measured = world.measure(config, seed=11)
    assert measured.ranks.tolist() == ranks
    assert [Reason(reason).name.lower() for reason in measured.reasons] == verdicts
    assert measured.admitted.any() or config.random_rate == 1.0
    assert measured.costs["shallow_rate"] == literal.shallow_steps / len(samples)
    assert measured.costs["transitions_per_pass"] == (literal.outputs / literal.passes if literal.passes else 0)
    assert not np.array_equal(measured.ranks, world.measure(AdaptConfig(target="none")).ranks)


@pytest.mark.parametrize("objective", ["next_item", "entropy"])
@pytest.mark.parametrize("serve", ["before", "after"])
def test_nothing_admitted_computes_nothing(world: World, objective: str, serve: str, monkeypatch) -> None:
    work, model = Work(monkeypatch), world.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured = world.measure(AdaptConfig(**WEIGHTS, **NEVER, **AT_REQUEST, objective=objective, serve=serve), model)
    assert measured.metrics()["filter_rate"] == 1 and measured.metrics()["adapt_seconds"] == 0
    assert work.backward == work.losses == 0 and work.ends(graph=True) == []
    assert len(work.ends()) == len(measured.ranks)  # served once, not again after a step that was not taken
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("objective", "feedback", "filtered"),
    [
        ("next_item", "next_request", "nothing"),
        ("next_item", "immediate", "nothing"),
        ("next_item", "immediate", "mlp"),
        ("entropy", "immediate", "nothing"),
    ],
)
def test_a_backward_pass_sees_the_admitted_samples_only(
    world: World, objective: str, feedback: str, filtered: str, monkeypatch
) -> None:
    work = Work(monkeypatch)
    measured = world.measure(AdaptConfig(**WEIGHTS, **GATED, objective=objective, feedback=feedback, filtered=filtered))
    samples, shift = world.samples(), 1 if feedback == "next_request" else 0
    ends = world.log.offsets[samples.users] + samples.positions - shift
    assert 0 < measured.admitted.sum() < len(samples)
    assert work.ends(graph=True) == sorted(ends[measured.admitted].tolist())
    batches = [part.any() for part in np.split(measured.admitted, range(32, len(samples), 32))]
    assert work.backward == (sum(batches) if filtered == "nothing" else len(batches))


LEAK_CONFIGS = [
    {**WEIGHTS, **GATED},
    {**WEIGHTS, **GATED, **AT_ONCE},
    {**WEIGHTS, **GATED, **AT_ONCE, "filtered": "mlp", "transitions": "pending"},
    {**WEIGHTS, **GATED, **AT_REQUEST, "filtered": "residual", "transitions": "pending"},
    {**WEIGHTS, **BY_LOSS, **AT_ONCE, "weighting": "entropy", "correction": "selection", "filtered": "output"},
    {**WEIGHTS, **GATED, "serve": "after", **AT_REQUEST, "new_transitions_only": False},
    {**WEIGHTS, **GATED, "objective": "entropy"},
    {"target": "state", **GATED},
]


@pytest.mark.parametrize("fields", LEAK_CONFIGS, ids=str)
def test_nothing_is_known_before_it_is_served(world: World, fields: dict) -> None:
    """Other targets from some batch on, and everything later: what was decided and learned before is the same.

    So are the gate's decisions on that very batch.
    """
    config = AdaptConfig(**{**fields, "batch_size": 12})
    # A batch with two samples of one user holds the first one's target in the second one's input.
    users = np.split(world.samples().users, range(12, len(world.samples()), 12))
    batches = [number for number, part in enumerate(users) if len(set(part)) == len(part)]
    assert len(batches) > 4
    for batch in (0, 1, batches[3]):
        changed = _with_other_targets(world, batch * 12)
        mine, other = _trace(world, config, batch), _trace(changed, config, batch)
        for before, after in zip(mine, other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not np.array_equal(world.measure(config).ranks, changed.measure(config).ranks)


def _with_other_targets(world: World, first: int) -> World:
    """The log with every item replaced that is a target at or behind place `first` of the stream."""
    samples, items = world.samples(), world.log.items.copy()
    targets = world.log.offsets[samples.users[first:]] + samples.positions[first:]
    items[targets] = items[targets] % (world.log.n_items - 1) + 1
    return World(replace(world.log, items=items), world.frozen)


def _trace(world: World, config: AdaptConfig, batch: int) -> list[list[torch.Tensor]]:
    """Decisions up to the batch, ranks before it, and the weights with which its samples are judged."""
    model, samples, trace = world.model(), world.samples(), []
    adapter = adapt.build(config, model, Encoder(world.log, CPU), samples, Clock(CPU), seed=0)
    for number in range(batch + 1):
        part = slice(number * 12, number * 12 + 12)
        weights = [tensor.clone() for tensor in model.state_dict().values()]
        ranks, decision = adapter.serve(part)
        assert decision.weights is not None
        decided = [decision.reasons, decision.weights]
        if config.criterion == "loss" and config.feedback == "immediate" and number == batch:
            decided = []  # by the losses of the batch's own targets, once they are ranked
        trace.append([*decided, *weights] if number == batch else [ranks, *decided, *weights])
    return trace


@pytest.mark.parametrize(
    "fields", [{}, {"transitions": "pending", "new_transitions_only": False}, {"objective": "entropy"}], ids=str
)
def test_adapting_on_every_sample_costs_everything_and_a_gate_less(world: World, fields: dict) -> None:
    config = AdaptConfig(**WEIGHTS, **AT_ONCE, **ALWAYS, **fields)
    measured = world.measure(config)
    assert measured.costs["arithmetic"] == 1 and measured.metrics()["adapt_seconds"] > 0
    gated = world.measure(replace(config, gate="random", random_rate=0.75))
    assert 0.5 * gated.admitted.mean() < gated.costs["arithmetic"] < 0.7


@pytest.mark.parametrize("serve", ["before", "after"])
def test_the_states_that_rank_a_batch_are_shown(world: World, serve: str) -> None:
    """With `serve: after` those before the step come first, then those after it, which rank."""
    model, shown = world.model(), []
    config = AdaptConfig(**WEIGHTS, **AT_REQUEST, **ALWAYS, serve=serve, new_transitions_only=False)
    encoder, samples = Encoder(world.log, CPU), world.samples()
    adapter = adapt.build(config, model, encoder, samples, Clock(CPU), seed=5)
    adapter.show = shown.append
    starts, ends = encoder.ranges(samples.users[:12], samples.positions[:12])
    before = encoder.hidden(model, starts, ends).detach()
    adapter.serve(slice(0, 12))
    after = encoder.hidden(model, starts, ends).detach()
    expected = [before] if serve == "before" else [before, after]
    assert len(shown) == len(expected) and not torch.equal(before, after)
    for one, other in zip(shown, expected, strict=True):
        torch.testing.assert_close(one[:12].detach(), other)


@pytest.mark.parametrize(
    "fields",
    [
        {**GATED, **AT_ONCE, "dropout": 0.3},
        {"gate": "random", "filtered": "output", "transitions": "pending", "shallow_negatives": 3, **AT_ONCE},
        {**BY_LOSS, "weighting": "none", "objective": "next_item", **AT_REQUEST, "optimizer": "sgd", "momentum": 0.5},
    ],
    ids=str,
)
def test_another_adapter_goes_on_from_a_snapshot_as_the_first_one_does(world: World, fields: dict) -> None:
    """With the weights, the optimizer's moments, the gate and every random draw of the first one."""
    config = AdaptConfig(**{**WEIGHTS, **fields, "batch_size": 12})
    samples, models = world.samples(), [world.model(), world.model()]
    parts = Encoder(world.log, CPU), samples, Clock(CPU)
    first, second = (adapt.build(config, model, *parts, seed=5) for model in models)
    batches = [slice(start, start + 12) for start in range(0, 96, 12)]
    for rows in batches[:5]:
        first.serve(rows)
    second.restore(first.snapshot())
    second.follow(*parts[:2], first.marks())
    for rows in batches[:5]:
        second.observed.settle(rows)  # the ranks that the first one has served
    for rows in batches[5:]:
        (ranks, decision), (same, alike) = first.serve(rows), second.serve(rows)
        assert torch.equal(ranks, same) and torch.equal(decision.reasons, alike.reasons)
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in models), strict=True))


def test_a_shallow_step_moves_targets_and_drawn_items_only(world: World) -> None:
    """With `output` the step reaches the item vectors alone. A pass over a sequence moves all of them."""
    config = AdaptConfig(
        **WEIGHTS, **AT_ONCE, gate="random", random_rate=1.0, filtered="output", shallow_negatives=4, optimizer="sgd"
    )
    model = world.model()
    stays = [weight.detach().clone() for name, weight in model.named_parameters() if name != "items.weight"]
    before = model.items.weight.detach().clone()
    samples = world.samples()
    adapter = adapt.build(config, model, Encoder(world.log, CPU), samples, Clock(CPU), 3)
    adapter.serve(slice(0, 8))
    targets = {world.target(int(u), int(p)) for u, p in zip(samples.users[:8], samples.positions[:8], strict=True)}
    moved = set((model.items.weight[1:] != before[1:]).any(1).nonzero()[:, 0].tolist())
    assert targets <= moved and len(moved - targets) == len(moved) - len(targets) <= 4
    assert len(moved) > len(targets)
    now = [weight for name, weight in model.named_parameters() if name != "items.weight"]
    assert all(torch.equal(a, b) for a, b in zip(stays, now, strict=True))


@pytest.mark.parametrize("small", [SASREC, MAMBA4REC], ids=lambda small: small.name)
@pytest.mark.parametrize("depth", ["residual", "mlp"])
def test_a_shallow_step_of_a_post_norm_model_is_that_of_constant_branches(world: World, small, depth: str) -> None:
    config = AdaptConfig(**WEIGHTS, **AT_ONCE, gate="random", random_rate=1.0, filtered=depth, optimizer="sgd")
    models = [model_of(small, len(world.log.vocabulary) + 1).requires_grad_(True) for _ in range(2)]
    if small.name == "sasrec":
        models[1].positions.table.weight.requires_grad_(False)
    samples = world.samples()
    adapt.build(config, models[0], Encoder(world.log, CPU), samples, Clock(CPU), 3).serve(slice(0, 8))
    losses = []
    for user, position in zip(samples.users[:8], samples.positions[:8], strict=True):
        hidden = hidden_with_constant_branches(models[1], world.inputs(user, position)[None], depth)
        losses.append(F.cross_entropy(models[1].item_vectors @ hidden, torch.tensor(world.target(user, position))))
    torch.stack(losses).mean().backward()
    for (name, ours), literal in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        pull = torch.zeros_like(literal) if literal.grad is None else literal.grad.to_dense()
        expected = literal.detach() - config.learning_rate * pull
        torch.testing.assert_close(ours.detach(), expected, msg=lambda text, name=name: f"{name}: {text}")


def test_models_without_a_residual_stream_from_the_last_item_refuse_deeper_shallow_steps(world: World) -> None:
    config = AdaptConfig(**WEIGHTS, filtered="residual")
    for small in (GRU4REC, BERT4REC):
        model = model_of(small, len(world.log.vocabulary) + 1)
        with pytest.raises(UserError, match=r"adapt\.filtered: given residual, .* expected nothing or output"):
            adapt.build(config, model, Encoder(world.log, CPU), world.samples(), Clock(CPU), 3)
