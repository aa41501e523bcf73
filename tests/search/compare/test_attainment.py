"""The quality that repeated searches attain, against values by hand."""

import numpy as np

from search.compare.attainment import RATES, attained, surfaces


def at(values: np.ndarray, rate: float) -> float:
    return float(values[round(rate * (len(RATES) - 1))])


def test_a_front_attains_its_best_quality_with_at_least_that_share_skipped() -> None:
    values = attained([(0.2, 0.5), (0.6, 0.4), (0.5, 0.3)])
    assert [at(values, rate) for rate in (0, 0.2, 0.3, 0.6)] == [0.5, 0.5, 0.4, 0.4]
    assert np.isnan(at(values, 0.605)) and np.isnan(at(values, 1))


def test_all_half_and_any_of_three_fronts() -> None:
    low, middle, high = [(1.0, 0.1)], [(0.5, 0.2)], [(0.8, 0.3)]
    every, half, any_ = surfaces([middle, high, low])
    assert (at(every, 0.4), at(half, 0.4), at(any_, 0.4)) == (0.1, 0.2, 0.3)
    assert (at(half, 0.7), at(any_, 0.7)) == (0.1, 0.3) and np.isnan(at(every, 0.7))
    assert np.isnan(at(half, 0.9)) and at(any_, 0.9) == 0.1


def test_half_of_two_fronts_is_one() -> None:
    every, half, any_ = surfaces([[(0.5, 0.1)], [(0.5, 0.2)]])
    assert (at(every, 0), at(half, 0), at(any_, 0)) == (0.1, 0.2, 0.2)
