"""The samples of a batch that a gate admits: by losses, with refills, at random, and with nothing to learn."""

import math

import numpy as np
import pytest
import torch
from small_gates import eta, judge, random_scores

from etarec import gate
from etarec.config import AdaptConfig, Reason
from etarec.gate import Batch, Gate


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
