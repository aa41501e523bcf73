"""A trial ends early only where a rival is clearly better in both objectives."""

from collections.abc import Sequence

import numpy as np
import pytest

from etarec.metrics import QualityMetric
from search.selection.paired import Outcomes
from search.selection.pruning import BeatenError, Pruner

SAMPLES = 1000
USERS = np.arange(SAMPLES, dtype=np.int32)


def outcomes(hits: float, admitted: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(SAMPLES) < hits, 0, 99), rng.random(SAMPLES) < admitted


def judge(
    mine: tuple[np.ndarray, np.ndarray],
    served: int,
    *rivals: tuple[np.ndarray, np.ndarray],
    qualities: Sequence[QualityMetric] = ("hr_at_10",),
) -> None:
    known = {f"rival-{number}": Outcomes.of(*rival) for number, rival in enumerate(rivals)}
    ranks, admitted = mine
    Pruner(known, qualities, z=3.0, begin=0.1)(USERS[:served], ranks[:served], admitted[:served], SAMPLES)


def test_a_trial_that_is_clearly_worse_in_both_ends_and_the_message_names_the_rival() -> None:
    weak, strong = outcomes(0.2, 0.8), outcomes(0.6, 0.3, seed=1)
    with pytest.raises(BeatenError, match="rival-1 is better in both objectives after 40% of the stream"):
        judge(weak, 400, weak, strong)
    judge(weak, 99, strong)  # too early, however clear it is


@pytest.mark.parametrize("rival", [(0.6, 0.9), (0.1, 0.3), (0.22, 0.3)])
def test_a_rival_that_is_not_clearly_better_in_both_ends_nothing(rival: tuple[float, float]) -> None:
    judge(outcomes(0.2, 0.8), 900, outcomes(*rival, seed=2))


def test_a_rival_of_another_stream_is_left_out() -> None:
    ranks, admitted = outcomes(0.9, 0.0)
    judge(outcomes(0.2, 0.8), 400, (ranks[:500], admitted[:500]))


def test_a_rival_has_to_lead_in_every_quality_metric() -> None:
    """It has more hits, but all in the tenth place, where a hit counts a third of one in the first place."""
    mine, (_, admitted) = outcomes(0.3, 0.8), outcomes(0.6, 0.3, seed=1)
    tenth = np.where(outcomes(0.6, 0.3, seed=1)[0] == 0, 9, 99)
    with pytest.raises(BeatenError, match="better in both objectives"):
        judge(mine, 900, (tenth, admitted))
    judge(mine, 900, (tenth, admitted), qualities=("hr_at_10", "ndcg_at_10"))
    with pytest.raises(BeatenError, match="better in all objectives"):
        judge(mine, 900, outcomes(0.6, 0.3, seed=1), qualities=("hr_at_10", "ndcg_at_10"))
