"""The gate against numbers worked out by hand and against section 2.2 of the design, sample by sample."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etarec import gate, scoring
from etarec.config import SKIPPED, AdaptConfig, Reason
from etarec.gate import Batch, Decision, Gate


def judge(judging: Gate, scores: Tensor, seen: list[bool] | None = None) -> Decision:
    """The gate on given scores [B, V]: the items' vectors are the axes."""
    axes = torch.eye(scores.shape[1], dtype=scores.dtype)
    given_seen = torch.zeros(len(scores), dtype=torch.bool) if seen is None else torch.tensor(seen)
    scan = scoring.scan(scores, axes, None, judging.scores_needed(scores.shape[1]))
    return judging.judge(Batch(scores, axes, scan.top_scores, scan.top_items, None, given_seen))


def log_of(*rows: list[float]) -> Tensor:
    """Scores with these softmaxes."""
    return torch.tensor(rows, dtype=torch.float64).log()


def eta(seed: int = 0, **fields: object) -> Gate:
    return Gate(AdaptConfig(**{"gate": "eta", "entropy_quantile": 1.0, "cosine_threshold": 1.0, **fields}), seed)


def random_scores(B: int, V: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows of different sharpness, some of them much alike."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(B, V, generator=generator, dtype=torch.float64)
    scores += 2 * torch.randn(3, V, generator=generator, dtype=torch.float64)[torch.arange(B) % 3]
    return (scores * (0.3 + 2 * torch.rand(B, 1, generator=generator, dtype=torch.float64))).to(dtype)


def test_entropy_of_known_distributions():
    scores = log_of([0.5, 0.25, 0.25, 1e-300], [0.25] * 4)
    assert gate.topk_entropy(scores[:, :3]).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])
    assert gate.topk_entropy(scores[:, :2])[0] == pytest.approx(math.log(3) - 2 / 3 * math.log(2))  # renormalised
    assert gate.topk_entropy(scores[:, :1]).tolist() == [0, 0]
    torch.testing.assert_close(gate.topk_entropy(scores + 300), gate.topk_entropy(scores))


def test_entropy_of_a_batch_is_over_the_k_largest_scores():
    judging = eta(top_k=2)
    judge(judging, log_of([0.1, 0.6, 0.0, 0.3], [0.4, 0.2, 0.4, 0.0]).clamp(min=-1e3))
    expected = [math.log(3) - 2 / 3 * math.log(2), math.log(2)]
    assert judging.threshold == pytest.approx(max(expected))


def test_average_is_restricted_to_its_own_top_k_and_has_length_one():
    restricted = gate.restricted(torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64), 2)
    assert restricted.tolist() == pytest.approx([0, 0.5 / math.sqrt(0.34), 0, 0.3 / math.sqrt(0.34)])


@pytest.mark.parametrize(
    ("average", "cosine"),
    [
        ([0.6, 0.4, 0.0, 0.0], 1.0),
        ([0.3, 0.2, 0.1, 0.1], 1.0),  # scale and what lies outside the Top-2 do not matter
        ([0.1, 0.1, 0.3, 0.5], 0.0),  # disjoint Top-2s
        ([0.0, 0.4, 0.3, 0.1], 0.4 * 0.8 / math.sqrt(0.52)),  # item 1 in common: (.6, .4) and (.8, .6) at length one
        ([0.4, 0.6, 0.0, 0.0], 0.48 / 0.52),  # the same items in another order
    ],
)
def test_cosine_by_hand(average, cosine):
    scan = scoring.scan(log_of([0.54, 0.36, 0.06, 0.04]), torch.eye(4, dtype=torch.float64), None, 2)
    direction = gate.restricted(torch.tensor(average, dtype=torch.float64), 2)
    assert float(gate.topk_cosine(scan.top_scores, scan.top_items, direction)) == pytest.approx(cosine, abs=1e-12)


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (1.0, 4.0)])
def test_threshold_is_the_quantile(quantile, expected):
    assert gate.entropy_threshold(torch.tensor([3.0, 1.0, 4.0, 2.0]), quantile) == pytest.approx(expected)


def test_reliable_is_strictly_below_the_threshold_and_uncertain_the_rest():
    entropies = torch.tensor([1.0, 2.0, 3.0])
    assert gate.reliable(entropies, 2.0, "confident").tolist() == [True, False, False]
    assert gate.reliable(entropies, 2.0, "uncertain").tolist() == [False, True, True]


def test_threshold_is_calibrated_on_the_first_batch_only():
    judging = eta(entropy_quantile=0.5, cosine_threshold=1.0, top_k=4)
    first, second = random_scores(9, 12, 0), random_scores(9, 12, 1)
    judge(judging, first)
    expected = np.quantile(gate.topk_entropy(first.topk(4).values).numpy(), 0.5)
    assert judging.threshold == pytest.approx(expected)
    judge(judging, second)
    assert judging.threshold == pytest.approx(expected)


def test_a_fixed_threshold_is_not_calibrated():
    judging = eta(entropy_threshold=0.9, entropy_quantile=0.1, top_k=4)
    scores = random_scores(9, 12, 0)
    decision = judge(judging, scores)
    assert judging.threshold == 0.9
    assert torch.equal(decision.admitted, gate.topk_entropy(scores.topk(4).values) < 0.9)


@pytest.mark.parametrize("top_k", [3, None])
def test_first_batch_is_not_tested_for_redundancy(top_k):
    judging = eta(cosine_threshold=0.0, top_k=top_k, entropy_threshold=9.0)
    scores = random_scores(6, 12, 0)
    assert judge(judging, scores).admitted.all()
    second = judge(judging, scores)
    assert (second.reasons == Reason.REDUNDANCY).all() and not second.admitted.any()


@pytest.mark.parametrize(("epsilon", "new"), [(0.0, False), (1e-9, True)])
def test_new_is_strictly_below_epsilon(epsilon, new):
    judging = eta(cosine_threshold=epsilon, top_k=2, entropy_threshold=9.0)
    judge(judging, log_of([0.5, 0.3, 0.1, 0.1]))
    assert bool(judge(judging, log_of([0.1, 0.1, 0.3, 0.5])).admitted) is new  # disjoint: the cosine is exactly 0


@pytest.mark.parametrize("average_over", ["admitted", "all"])
def test_average_moves_by_a_tenth(average_over):
    """Entropies: ln 2 for (.5, .5, 0, 0), .5004 for (.8, .2, 0, 0); E0 = .6 admits the second kind only."""
    judging = eta(top_k=2, entropy_threshold=0.6, average_over=average_over)
    even, sharp, other = [0.48, 0.48, 0.02, 0.02], [0.76, 0.19, 0.03, 0.02], [0.02, 0.03, 0.19, 0.76]
    judge(judging, log_of(even, sharp))
    first = np.array(sharp) if average_over == "admitted" else np.mean([even, sharp], axis=0)
    np.testing.assert_allclose(judging.average, first)
    decision = judge(judging, log_of(other, even))
    assert decision.admitted.tolist() == [True, False]
    added = np.array(other) if average_over == "admitted" else np.mean([other, even], axis=0)
    np.testing.assert_allclose(judging.average, 0.9 * first + 0.1 * added)


def test_nothing_admitted_leaves_the_average_as_it_was():
    judging = eta(top_k=2, entropy_threshold=0.6)
    even, sharp = log_of([0.48, 0.48, 0.02, 0.02]), log_of([0.76, 0.19, 0.03, 0.02])
    judge(judging, even)
    assert judging.average is None
    assert judge(judging, sharp).admitted.all()  # still no average: still not tested for redundancy
    before = judging.average.clone()
    assert not judge(judging, even).admitted.any()
    assert torch.equal(judging.average, before)


def test_weights_are_exp_of_threshold_minus_entropy():
    scores = random_scores(7, 12, 0)
    decision = judge(eta(top_k=4, entropy_threshold=1.25), scores)
    torch.testing.assert_close(decision.weights, (1.25 - gate.topk_entropy(scores.topk(4).values)).exp())
    assert (decision.weights[decision.admitted] > 1).all()
    assert judge(eta(top_k=4, weighting="none"), scores).weights is None


def test_clamped_weights_end_at_two_nats_and_average_to_one():
    scores = random_scores(9, 40, 0)
    decision = judge(eta(top_k=30, entropy_threshold=3.0, weighting="clamped"), scores)
    away = 3.0 - gate.topk_entropy(scores.topk(30).values)
    assert float(away.max()) > 2 and decision.admitted.any()
    expected = away.clamp(-2, 2).exp()
    torch.testing.assert_close(decision.weights, expected / expected[decision.admitted].mean())
    assert float(decision.weights[decision.admitted].mean()) == pytest.approx(1)


def test_weights_are_clamped_at_both_ends():
    entropies = torch.tensor([0.0, 2.5, 5.0])
    weights = gate.clamped_weight(entropies, 2.5, torch.tensor([False, True, False]))
    assert weights.tolist() == pytest.approx([math.exp(2), 1, math.exp(-2)])


def test_each_test_refills_with_the_samples_nearest_to_passing_it():
    """E0 = 0 leaves nobody reliable, so the first test keeps the lowest entropies. More are reliable afterwards, and
    all of them are redundant: the second test keeps the lowest cosines."""
    judging = eta(top_k=4, entropy_threshold=0.0, cosine_threshold=0.0, min_admitted=0.3, refill="each_test")
    first, second = random_scores(10, 12, 0), random_scores(10, 12, 1)
    lowest = gate.topk_entropy(first.topk(4).values).argsort()[:3]
    assert sorted(judge(judging, first).admitted.nonzero()[:, 0].tolist()) == sorted(lowest.tolist())
    judging.threshold = 99.0
    top = second.topk(4)
    cosines = gate.topk_cosine(top.values, top.indices, judging._direction)
    decision = judge(judging, second)
    assert sorted(decision.admitted.nonzero()[:, 0].tolist()) == sorted(cosines.argsort()[:3].tolist())
    assert int((decision.reasons == Reason.REDUNDANCY).sum()) == 7
    judging.threshold = 0.0  # no more than the least are reliable: nobody is tested for redundancy
    assert not (judge(judging, second).reasons == Reason.REDUNDANCY).any()


def test_without_a_test_of_redundancy_there_is_no_average():
    judging, strict = (eta(top_k=3, entropy_threshold=9.0, cosine_threshold=epsilon) for epsilon in (None, 0.0))
    scores = random_scores(6, 12, 0)
    assert judge(judging, scores).admitted.all() and judge(judging, scores).admitted.all()
    assert judging.average is None and judging.scores_needed(12) == 3
    judge(strict, scores)
    assert not judge(strict, scores).admitted.any()


def test_a_gate_by_loss_without_a_test_of_redundancy_needs_no_scores():
    judging = eta(criterion="loss", cosine_threshold=None, entropy_quantile=0.5)
    assert judging.scores_needed(12) == 0 and judging.needs_losses
    axes, seen = torch.eye(4), torch.zeros(4, dtype=torch.bool)
    losses = torch.tensor([3.0, 1.0, 2.0, 4.0])
    decision = judging.judge(Batch(axes, torch.rand(60, 4), None, None, losses, seen))
    assert decision.admitted.tolist() == [False, True, True, False] and judging.threshold == 2.5


def test_a_sample_without_a_loss_has_no_part_in_the_threshold():
    judging = eta(criterion="loss", cosine_threshold=None, entropy_quantile=0.5)
    axes, losses = torch.eye(4), torch.tensor([3.0, math.nan, 2.0, 4.0])
    decision = judging.judge(Batch(axes, axes, None, None, losses, losses.isnan()))
    assert decision.admitted.tolist() == [False, False, True, False] and decision.threshold == 3.0


def test_each_batch_is_calibrated_on_what_it_can_learn():
    fields = {"calibrate": "each_batch", "entropy_quantile": 0.5, "cosine_threshold": None, "top_k": 4}
    judging, fixed = eta(**fields), eta(**fields, entropy_threshold=0.9)
    seen = [True] * 3 + [False] * 6
    for number in range(2):
        scores = random_scores(9, 12, number)
        decision = judge(judging, scores, seen)
        expected = np.quantile(gate.topk_entropy(scores.topk(4).values).numpy()[3:], 0.5)
        assert decision.threshold == judging.threshold == pytest.approx(expected)
        assert judge(fixed, scores, seen).threshold == 0.9
    nobody = judge(judging, random_scores(9, 12, 2), [True] * 9)
    assert nobody.threshold == 0 and not nobody.admitted.any() and judging.threshold == pytest.approx(expected)


def test_the_catalogue_and_not_the_width_bounds_k():
    generator = torch.Generator().manual_seed(0)
    hidden, vectors = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (9, 15))
    narrow, wide = (eta(top_k=None, entropy_quantile=0.5) for _ in range(2))
    seen = torch.zeros(9, dtype=torch.bool)
    assert torch.equal(
        narrow.judge(Batch(hidden, vectors, None, None, None, seen)).reasons, judge(wide, hidden @ vectors.T).reasons
    )
    assert narrow.threshold == pytest.approx(wide.threshold)


def test_at_least_min_admitted_of_a_batch_the_most_reliable_first():
    scores = random_scores(10, 12, 0)
    order = gate.topk_entropy(scores.topk(4).values).argsort().tolist()
    kept = judge(eta(top_k=4, entropy_threshold=0.0, min_admitted=0.25), scores).admitted
    assert sorted(kept.nonzero()[:, 0].tolist()) == sorted(order[:3])  # a quarter of ten, rounded up
    seen = [n in order[:2] for n in range(10)]
    kept = judge(eta(top_k=4, entropy_threshold=0.0, min_admitted=0.25), scores, seen).admitted
    assert sorted(kept.nonzero()[:, 0].tolist()) == sorted(order[2:5])
    kept = judge(eta(top_k=4, entropy_threshold=99.0, min_admitted=0.25, admit="uncertain"), scores).admitted
    assert sorted(kept.nonzero()[:, 0].tolist()) == sorted(order[-3:])
    everybody_seen = judge(eta(top_k=4, entropy_threshold=0.0, min_admitted=1.0), scores, [True] * 10)
    assert not everybody_seen.admitted.any() and (everybody_seen.reasons == Reason.NOTHING_TO_LEARN).all()


def test_min_admitted_adds_to_those_that_passed():
    judging = eta(top_k=4, entropy_quantile=0.35, min_admitted=0.7)
    scores = random_scores(10, 12, 0)
    decision = judge(judging, scores)
    order = gate.topk_entropy(scores.topk(4).values).argsort().tolist()
    assert sorted(decision.admitted.nonzero()[:, 0].tolist()) == sorted(order[:7])
    assert int((decision.reasons == Reason.ENTROPY).sum()) == 3


def test_full_entropy_is_top_k_with_all_items():
    scores = random_scores(8, 15, 3)
    top = scores.topk(15)
    judging = eta(top_k=None)
    judge(judging, random_scores(5, 15, 4))
    full = scoring.spread(scores, torch.eye(15, dtype=torch.float64), judging._direction)
    torch.testing.assert_close(full.entropy, gate.topk_entropy(top.values))
    cosines = gate.topk_cosine(top.values, top.indices, gate.restricted(judging.average, 15))
    torch.testing.assert_close(full.along / full.norm, cosines)


@pytest.mark.parametrize("top_k", [None, 15, 16, 500])
def test_top_k_beyond_the_catalogue_is_the_full_entropy(top_k):
    judging, full = (eta(top_k=k, entropy_quantile=0.6, cosine_threshold=0.7) for k in (top_k, None))
    assert judging.scores_needed(15) == 0 and judging.scores_needed(600) == (top_k or 0)
    for batch in range(4):
        mine, other = (judge(each, random_scores(9, 15, batch)) for each in (judging, full))
        assert torch.equal(mine.admitted, other.admitted) and torch.equal(mine.weights, other.weights)


@pytest.mark.parametrize("kind", ["open", "random"])
def test_other_gates_need_no_top_k_and_give_no_weights(kind):
    judging = Gate(AdaptConfig(gate=kind, random_rate=0.0), 0)
    assert judging.scores_needed(100) == 0
    decision = judge(judging, random_scores(6, 12, 0), [False, True] * 3)
    assert decision.admitted.tolist() == [True, False] * 3
    assert decision.weights is None and judging.average is None and judging.threshold is None


def test_random_gate_has_its_rate_and_its_seed():
    scores = random_scores(5000, 4, 0)
    verdicts = {}
    for seed in (0, 0, 1):
        judging = Gate(AdaptConfig(gate="random", random_rate=0.3), seed)
        verdicts.setdefault(seed, []).append([judge(judging, scores).reasons == Reason.CHANCE for _ in range(2)])
    for batch in (0, 1):
        assert torch.equal(verdicts[0][0][batch], verdicts[0][1][batch])
        assert not torch.equal(verdicts[0][0][batch], verdicts[1][0][batch])
        assert float(verdicts[0][0][batch].double().mean()) == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(verdicts[0][0][0], verdicts[0][0][1])
    assert (judge(Gate(AdaptConfig(gate="random", random_rate=1.0), 0), scores).reasons == Reason.CHANCE).all()


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
def test_a_whole_stream_is_decided_as_the_design_says(fields, dtype, literal_gate):
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


@pytest.mark.parametrize("top_k", [25, 26, 1000, None])
def test_a_top_k_of_the_catalogue_and_beyond_means_all_items(top_k):
    assert gate.effective_top_k(top_k, 25) == 25
    scores = random_scores(20, 25, 0)
    judging, whole = eta(top_k=top_k, entropy_quantile=0.5), eta(top_k=None, entropy_quantile=0.5)
    for batch in scores.split(10):
        mine, other = judge(judging, batch), judge(whole, batch)
        assert torch.equal(mine.reasons, other.reasons) and torch.equal(mine.weights, other.weights)


@pytest.mark.parametrize(
    ("fields", "nothing", "ignored"),
    [
        ({"entropy_threshold": 1.0}, [True, True], True),
        ({"entropy_threshold": 1.0}, [True, False], False),
        ({"entropy_threshold": 1.0, "average_over": "all"}, [True, True], False),  # m moves
        ({}, [True, True], False),  # E0 is a quantile of the first batch
        ({"calibrate": "each_batch"}, [True, True], True),
        ({"criterion": "loss"}, [True, True], True),
        ({"gate": "open", "entropy_threshold": 1.0}, [True, True], False),
        ({"gate": "random", "calibrate": "each_batch"}, [True, True], False),
    ],
)
def test_a_batch_is_ignored_only_if_it_changes_nothing(fields: dict, nothing: list[bool], ignored: bool) -> None:
    assert eta(**fields).ignores(np.array(nothing)) is ignored
