"""Laws that the gate keeps whatever the scores are."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from etarec import gate, scoring
from etarec.config import AdaptConfig, Reason
from etarec.gate import Batch, Gate
from tests.fuzz.damage import EXAMPLES

V = 9
ROW = st.lists(st.floats(-60, 60, width=32), min_size=V, max_size=V)
BATCHES = st.lists(ROW, min_size=1, max_size=8).map(torch.tensor)


def judged(scores: Tensor, first: Tensor, **fields: object) -> Tensor:
    """The reasons of a batch behind a first one, whose samples all enter the moving average."""
    judging = Gate(AdaptConfig(gate="eta", average_over="all", weighting="none", **fields), 0)
    for batch in (first, scores):
        axes = torch.eye(V)
        scan = scoring.scan(batch, axes, None, judging.scores_needed(V))
        nothing = torch.zeros(len(batch), dtype=torch.bool)
        decision = judging.judge(Batch(batch, axes, scan.top_scores, scan.top_items, None, nothing))
    return decision.reasons


def skipped(reasons: Tensor) -> int:
    return int((reasons != Reason.ADMITTED).sum())


@EXAMPLES
@given(BATCHES, st.integers(1, V))
def test_entropy_lies_between_0_and_ln_k(scores: Tensor, top_k: int) -> None:
    entropies = gate.topk_entropy(scores.topk(top_k).values)
    assert bool((entropies >= -1e-6).all()) and bool((entropies <= math.log(top_k) + 1e-5).all())


@EXAMPLES
@given(BATCHES)
def test_entropy_of_all_items_is_the_full_entropy(scores: Tensor) -> None:
    p = scores.double().softmax(-1).numpy()
    full = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    np.testing.assert_allclose(gate.topk_entropy(scores.topk(V).values), full, atol=1e-5)
    spread = scoring.spread(scores, torch.eye(V), None)
    np.testing.assert_allclose(spread.entropy, full, atol=1e-5)


@EXAMPLES
@given(BATCHES, BATCHES, st.sampled_from([2, 4, None]), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quantile_skips_no_more(first: Tensor, scores: Tensor, top_k: int | None, a: float, b: float) -> None:
    low, high = (judged(scores, first, top_k=top_k, entropy_quantile=q, cosine_threshold=0.5) for q in sorted((a, b)))
    assert skipped(high) <= skipped(low)
    refused = (low == Reason.ENTROPY) >= (high == Reason.ENTROPY)
    assert bool(refused.all())


@EXAMPLES
@given(BATCHES, BATCHES, st.sampled_from([2, 4, None]), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_epsilon_skips_no_more(first: Tensor, scores: Tensor, top_k: int | None, a: float, b: float) -> None:
    low, high = (judged(scores, first, top_k=top_k, entropy_quantile=1.0, cosine_threshold=e) for e in sorted((a, b)))
    assert bool(((low == Reason.REDUNDANCY) >= (high == Reason.REDUNDANCY)).all())
    assert bool(((low == Reason.ENTROPY) == (high == Reason.ENTROPY)).all())


@EXAMPLES
@given(BATCHES, st.floats(0, 1))
def test_uncertain_admits_exactly_the_samples_that_confident_refuses(scores: Tensor, quantile: float) -> None:
    fields = {"top_k": 4, "entropy_quantile": quantile, "cosine_threshold": None}
    confident, uncertain = (judged(scores, scores, admit=admit, **fields) for admit in ("confident", "uncertain"))
    assert bool(((confident == Reason.ADMITTED) ^ (uncertain == Reason.ADMITTED)).all())
