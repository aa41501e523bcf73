"""Hidden states of many prefixes at once against one unpadded pass per prefix."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etarec import encode
from etarec.config import ModelConfig
from etarec.data import stream
from etarec.encode import Encoder
from etarec.kernels import build as c_build
from etarec.models import build
from etarec.ttt import INNER_LOOP, WITHOUT_INNER_LOOP, InnerOptions
from tests.etarec.conftest import N_ITEMS

CPU = torch.device("cpu")


@pytest.fixture
def model(frozen):
    return frozen.restore(CPU).double().eval().requires_grad_(False)


@pytest.fixture
def everything(log):
    """Every sample of the log, in an order that mixes users and lengths."""
    parts = [stream(log, split, "shuffled", 3) for split in ("train", "valid", "test")]
    order = np.random.default_rng(0).permutation(sum(len(part) for part in parts))
    return tuple(np.concatenate([getattr(part, name) for part in parts])[order] for name in ("users", "positions"))


def literal(model, log, users, positions, inner=INNER_LOOP):
    states = []
    for n, (user, position) in enumerate(zip(users, positions, strict=True)):
        history = log.items[log.offsets[user] : log.offsets[user + 1]]
        inputs = torch.tensor(history[max(0, position - log.max_length) : position], dtype=torch.long)
        states.append(model(inputs[None], inner=inner.of(slice(n, n + 1)))[0, -1])
    return torch.stack(states)


@pytest.mark.parametrize("inner", [INNER_LOOP, WITHOUT_INNER_LOOP], ids=["inner loop", "without inner loop"])
@pytest.mark.parametrize("tokens_per_pass", [1, 50, 2**13])
def test_hidden_states_are_those_of_every_prefix_alone(model, log, everything, inner, tokens_per_pass, monkeypatch):
    monkeypatch.setitem(encode.TOKENS_PER_PASS, "cpu", tokens_per_pass)
    encoder = Encoder(log, CPU)
    hidden = encoder.hidden(model, *encoder.ranges(*everything), inner)
    expected = literal(model, log, *everything, inner)
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-10)


def test_each_sample_has_its_own_rate_scale(model, log, everything):
    """Even two samples of the same input."""
    users, positions = (np.concatenate([column[:60], column[:60]]) for column in everything)
    scale = torch.linspace(0, 2, 120, dtype=torch.float64)
    encoder = Encoder(log, CPU)
    hidden = encoder.hidden(model, *encoder.ranges(users, positions), InnerOptions(scale))
    expected = literal(model, log, users, positions, InnerOptions(scale))
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-10)


def test_composition_of_a_call_changes_nothing(model, log, everything):
    encoder = Encoder(log, CPU)
    starts, ends = encoder.ranges(*everything)
    together = encoder.hidden(model, starts, ends)
    for chosen in (np.arange(5), np.arange(30, 90)[::-1], np.array([7, 7, 8])):
        torch.testing.assert_close(
            encoder.hidden(model, starts[chosen], ends[chosen]), together[chosen.copy()], rtol=0, atol=1e-11
        )


@pytest.fixture(params=[1, 2])
def c_model(request):
    """A model in float32 and of sizes for C, which takes sequences end to end."""
    model = build(ModelConfig(width=16, heads=2, mlp_width=32, blocks=request.param), N_ITEMS).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    if c_build.compiler() is None:
        pytest.skip("needs a C compiler")
    assert model.takes_ragged() and not copy.deepcopy(model).double().takes_ragged()
    return model


@pytest.mark.parametrize("tokens", [1, 50, 2**13])
@pytest.mark.parametrize("case", ["shared", "scaled", "without inner loop"])
def test_sequences_end_to_end_are_those_of_every_prefix_alone(c_model, log, everything, tokens, case, monkeypatch):
    """States and the gradients of all weights; some samples come twice."""
    monkeypatch.setattr(encode, "TOKENS_END_TO_END", tokens)
    chosen = np.concatenate([np.arange(150), np.arange(40, 60)])
    users, positions = (column[chosen] for column in everything)
    scale = torch.linspace(0, 2, len(chosen), dtype=torch.float64)
    encoder, results = Encoder(log, CPU), []
    for model in (copy.deepcopy(c_model).double(), c_model):
        own = scale.to(model.items.weight.dtype) if case == "scaled" else None
        inner = InnerOptions(own, enabled=case != "without inner loop")
        if model.takes_ragged():
            states = encoder.hidden(model, *encoder.ranges(users, positions), inner)
        else:
            states = literal(model, log, users, positions, inner)
        weights = torch.arange(states.numel(), dtype=states.dtype).view_as(states).cos()
        gradients = torch.autograd.grad((states * weights).sum(), [*model.parameters()], allow_unused=True)
        results.append([states, *(torch.zeros(1) if g is None else g.to_dense() for g in gradients)])
    names = ["states", *dict(c_model.named_parameters())]
    for name, expected, found in zip(names, *results, strict=True):
        apart = float(((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)).detach())
        assert apart < 1e-4, f"{name}: {apart:.1e} of its largest entry apart"


def test_prefixes_of_one_window_share_a_pass(model, log, monkeypatch):
    """Users whose inputs start at their first item: no more than one row of the model each."""
    samples = stream(log, "train", "position", 0)
    kept = samples.positions <= log.max_length
    rows, encode_ = [], model.encode
    monkeypatch.setattr(model, "encode", lambda x, *rest: rows.append(x.shape[0]) or encode_(x, *rest))
    encoder = Encoder(log, CPU)
    encoder.hidden(model, *encoder.ranges(samples.users[kept], samples.positions[kept]))
    assert sum(rows) == len(np.unique(samples.users[kept])) < kept.sum()


def test_ranges_are_the_last_items_before_the_target(log):
    encoder = Encoder(replace(log, max_length=3), CPU)
    user, first = np.int32(2), int(log.offsets[2])
    starts, ends = encoder.ranges(np.full(4, user), np.array([1, 3, 4, 20], np.int32))
    assert (starts - first).tolist() == [0, 0, 1, 17] and (ends - first).tolist() == [1, 3, 4, 20]


def test_padding_stands_on_the_right(log):
    encoder = Encoder(log, CPU)
    padded = encoder.padded(np.array([4, 0, len(log.items) - 1]), np.array([2, 4, 1]))
    first, last = log.items[:6].tolist(), log.items[-1]
    assert padded.tolist() == [[*first[4:6], 0, 0], first[:4], [last, 0, 0, 0]]


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@given(LENGTHS, st.sampled_from([1, 100, 10_000]), st.sampled_from([0, 30, 1000]))
def test_groups_hold_every_sequence_once_and_keep_to_the_limit(lengths, limit, idle_rows):
    array = np.array(lengths)
    groups = encode.group_by_length(array, limit, idle_rows)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for rows in groups:
        assert array[rows[-1]] == array[rows].max()
        assert len(rows) * array[rows].max() <= limit or len(rows) == 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.sampled_from([0, 1, 5]))
def test_groups_cost_the_least_of_all_cuts(lengths, idle_rows):
    ordered = np.sort(lengths)

    def cost(groups):
        return sum((len(group) + idle_rows) * max(group) for group in groups)

    def cuts(values):
        yield [values]
        for begin in range(1, len(values)):
            yield from ([values[:begin], *rest] for rest in cuts(values[begin:]))

    groups = [ordered[rows] for rows in encode.group_by_length(ordered, 10_000, idle_rows)]
    assert cost(groups) == min(cost(each) for each in cuts(list(ordered)))
