"""A gate along a stream: against its literal definition, sample by sample, and for any configuration."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gates import judge, random_scores

from etarec.config import SKIPPED, AdaptConfig, Reason
from etarec.gate import Gate

VARIANTS = [
    {},
    {"top_k": 10},
    {"top_k": 1, "entropy_threshold": 0.5, "cosine_threshold": 0.9},
    {"top_k": None},
    {"top_k": None, "admit": "uncertain"},
    {"admit": "uncertain", "average_over": "all"},
    {"average_over": "all", "weighting": "none"},
    {"entropy_quantile": 0.2, "min_admitted": 0.4},
    {"entropy_quantile": 1.0, "cosine_threshold": 0.05},
    {"entropy_threshold": 1.2, "admit": "uncertain", "min_admitted": 0.5},
    {"entropy_quantile": 0.9, "min_admitted": 0.4, "refill": "each_test", "cosine_threshold": 0.2},
    {"entropy_quantile": 0.1, "min_admitted": 0.3, "refill": "each_test", "admit": "uncertain"},
    {"entropy_threshold": 0.2, "min_admitted": 0.3, "refill": "each_test", "weighting": "clamped"},
    {"weighting": "clamped", "average_over": "all"},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_a_whole_stream_is_decided_as_the_definition_says(fields, dtype, literal_gate):
    config = AdaptConfig(**{"top_k": 4, "entropy_quantile": 0.7, "cosine_threshold": 0.5, **fields})
    judging, literal = Gate(config, 0), literal_gate(config)
    reasons = set()
    for number, size in enumerate((20, 13, 20, 1, 20, 7)):
        scores = random_scores(size, 25, 50 + number, dtype)
        seen = np.arange(size) % 5 == number
        decision = judge(judging, scores, seen.tolist())
        expected = literal.judge(scores.double().numpy(), seen)
        assert [Reason(reason).name.lower() for reason in decision.reasons.tolist()] == expected, f"batch {number}"
        assert judging.threshold == pytest.approx(literal.threshold, rel=1e-5)
        np.testing.assert_allclose(judging.average, literal.average, rtol=1e-4, atol=1e-7)
        weights = torch.ones(size) if decision.weights is None else decision.weights
        np.testing.assert_allclose(weights, literal.weights, rtol=1e-4)
        reasons |= set(expected)
    assert {"admitted", "nothing_to_learn"} <= reasons and len(reasons) >= 3


@pytest.mark.parametrize("kind", ["eta", "random"])
def test_a_gate_that_is_restored_goes_on_as_the_one_before(kind):
    config = AdaptConfig(gate=kind, top_k=4, entropy_quantile=0.7, cosine_threshold=0.3, random_rate=0.5)
    first, again = Gate(config, 0), Gate(config, 1)
    empty = first.snapshot()
    judge(first, random_scores(20, 12, 0))
    tensors, values = first.snapshot()
    again.restore(tensors, json.loads(json.dumps(values)))
    for number in (1, 2):
        mine, its = (judge(one, random_scores(20, 12, number)) for one in (first, again))
        assert torch.equal(mine.reasons, its.reasons) and mine.threshold == its.threshold
    assert set(tensors) == ({"average"} if kind == "eta" else set())
    again.restore(*empty)
    assert again.average is None and again.threshold is None
    fresh, its = (judge(one, random_scores(20, 12, 3)) for one in (Gate(config, 0), again))
    assert torch.equal(fresh.reasons, its.reasons)


CONFIGS = st.builds(
    AdaptConfig,
    gate=st.sampled_from(["eta", "eta", "open", "random"]),
    top_k=st.sampled_from([1, 3, 10, None]),
    entropy_quantile=st.floats(0, 1),
    entropy_threshold=st.none() | st.floats(0, 3),
    cosine_threshold=st.floats(0, 1),
    admit=st.sampled_from(["confident", "uncertain"]),
    average_over=st.sampled_from(["admitted", "all"]),
    min_admitted=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    refill=st.sampled_from(["batch", "each_test"]),
    weighting=st.sampled_from(["entropy", "clamped", "none"]),
    random_rate=st.floats(0, 1),
)


@settings(deadline=None)
@given(
    CONFIGS, st.integers(0, 1000), st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4)
)
def test_samples_with_nothing_to_learn_are_never_admitted(config, seed, batches):
    judging = Gate(config, seed)
    for number, seen in enumerate(batches):
        decision = judge(judging, random_scores(len(seen), 14, seed + number), seen)
        assert set(decision.reasons.tolist()) <= {Reason.ADMITTED, *SKIPPED}
        assert (decision.reasons == Reason.NOTHING_TO_LEARN).tolist() == seen
        open_to_it = len(seen) - sum(seen)
        if config.gate == "eta":
            least = min(math.ceil(config.min_admitted * len(seen)), open_to_it)
            assert int(decision.admitted.sum()) >= least


def has_an_order(config: AdaptConfig) -> bool:
    """With K = 1 every entropy is 0, and `min_admitted` can only take the first ones."""
    return config.gate == "eta" and not (config.top_k == 1 and config.min_admitted)


@settings(deadline=None, max_examples=60)
@given(CONFIGS.filter(has_an_order), st.integers(0, 1000), st.data())
def test_decisions_do_not_depend_on_the_order_inside_a_batch(config, seed, data):
    plain, shuffled = Gate(config, 0), Gate(config, 0)
    for number, size in enumerate((7, 9, 8)):
        scores = random_scores(size, 14, seed + number)
        seen = torch.arange(size) % 4 == 0
        order = torch.tensor(data.draw(st.permutations(range(size))))
        straight = judge(plain, scores, seen.tolist())
        mixed = judge(shuffled, scores[order], seen[order].tolist())
        assert torch.equal(straight.reasons[order], mixed.reasons)
        if config.weighting != "none":
            torch.testing.assert_close(straight.weights[order], mixed.weights)
