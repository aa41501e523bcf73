"""Groups of front points that validation cannot tell apart."""

import numpy as np
import pytest

from search.selection.groups import bootstrapped, grouped, significantly_below
from search.selection.paired import Outcomes

USERS = np.repeat(np.arange(300), 5)


def front(*hits: float) -> np.ndarray:
    """Bootstrap means of configurations that share one order of difficulty, so that paired differences are sharp."""
    difficulty = np.random.default_rng(0).permutation(len(USERS)) / len(USERS)
    outcomes = [Outcomes.of(np.where(difficulty < share, 0, 99), np.ones(len(USERS), bool)) for share in hits]
    return bootstrapped(outcomes, USERS, "hr_at_10", 500, 0)


def test_neighbours_within_the_paired_interval_of_the_first_are_one_group() -> None:
    means = front(0.5, 0.5, 0.5, 0.3, 0.3)
    assert grouped([means], [0.1, 0.12, 0.2, 0.22, 0.3]) == [[0, 1, 2], [3, 4]]


def test_a_group_is_no_wider_than_a_straight_line_may_be() -> None:
    assert grouped([front(0.5, 0.5, 0.5)], [0.1, 0.2, 0.3]) == [[0, 1], [2]]


def test_small_steps_do_not_add_up_inside_a_group() -> None:
    """Neighbours differ in 3 hits, which may be nothing; every second point in 6."""
    assert grouped([front(0.500, 0.498, 0.496, 0.494)], [0.1, 0.11, 0.12, 0.13]) == [[0, 1], [2, 3]]


def test_points_of_one_group_are_alike_in_every_metric() -> None:
    one, other = front(0.5, 0.5, 0.5), front(0.5, 0.5, 0.3)
    assert grouped([one, other], [0.1, 0.12, 0.14]) == grouped([other, one], [0.1, 0.12, 0.14]) == [[0, 1], [2]]


def test_a_mean_is_the_users_ratio_and_clearly_lower_ones_are_marked() -> None:
    means = front(0.5, 0.49, 0.3)
    assert means.mean(axis=0) == pytest.approx([0.5, 0.49, 0.3], abs=0.03)
    assert significantly_below(means, means[:, 0]).tolist() == [False, True, True]
