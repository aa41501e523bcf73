"""The guard acts on a loss that is larger than the tolerance and than chance."""

import numpy as np
import pytest

from etarec.config import AdaptConfig
from etarec.serving.guard import Guard, GuardConfig, falls_short, ranks_of
from etarec.serving.histories import Sample, flat


def pair(both: int, adapted_only: int, frozen_only: int, neither: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, adapted_only, frozen_only, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("both", "adapted_only", "frozen_only", "short"),
    [
        (100, 0, 0, False),
        (100, 50, 0, False),
        (100, 0, 6, False),  # 6 of 106 is more than 5%, but sqrt(6) * 3 is 7.3
        (100, 0, 10, True),  # 10 > 9.5
        (1000, 0, 20, False),  # 20 of 1,020 is less than 5%
        (100, 40, 60, False),  # 20 of 160 is 12%, but 3 * sqrt(100) is 30
        (100, 40, 80, True),  # 40 of 180, and 3 * sqrt(120) is 33
    ],
)
def test_a_loss_counts_beyond_tolerance_and_chance(both, adapted_only, frozen_only, short):
    assert falls_short(*pair(both, adapted_only, frozen_only), tolerance=0.05) is short


def test_only_the_newest_observations_count():
    guard = Guard(GuardConfig(window=100))
    guard.record(np.full(300, 50), np.zeros(300))
    assert guard.verdict() == "HR@10 on the last 100 observations was 0.0000, and 1.0000 without adaptation"
    guard.record(np.zeros(100), np.zeros(100))
    assert guard.verdict() == ""
    guard.record(np.full(100, 10), np.full(100, 9))  # rank 9 is the tenth place
    guard.forget()
    assert guard.verdict() == "" and not guard.adapted


def test_the_frozen_models_ranks_are_those_of_its_scores(deployment):
    recommender = deployment.recommender(AdaptConfig(target="none"))
    users, items = deployment.observations("test")
    samples = [
        recommender.users.append(user, recommender.catalogue.codes[item])
        for user, item in zip(users, items, strict=True)
    ]
    batch = flat(samples[:9], deployment.log.vocabulary, deployment.log.max_length, open_end=False)
    found = ranks_of(recommender.model, batch, recommender.device)
    for rank, sample, item in zip(found, samples, items[:9], strict=False):
        history = [recommender.catalogue.tokens[c - 1] for c in sample.history.items[: sample.position]]
        (one,) = recommender.recommend([history], k=70)
        assert one.items.index(item) == rank
    assert isinstance(samples[0], Sample)
