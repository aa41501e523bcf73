"""The two numbers that say how good a front is, by hand."""

import pytest

from search.selection.area import area_share, gain_over_dice

DICE = [(0.5, 0.0), (0.4, 0.5), (0.3, 1.0)]  # adapting on everything, half at random, no adaptation


def test_only_area_above_no_adaptation_counts() -> None:
    assert area_share([(0.4, 0.5)], 0.3, 0.5) == pytest.approx(0.25)
    assert area_share([(0.4, 0.5), (0.29, 0.99)], 0.3, 0.5) == pytest.approx(0.25)
    assert area_share([(0.5, 1.0)], 0.3, 0.5) == pytest.approx(1)
    assert area_share([(0.6, 1.0)], 0.3, 0.5) == pytest.approx(1.5)
    assert area_share([], 0.3, 0.5) == 0


def test_where_adapting_does_not_pay_there_is_no_area() -> None:
    assert area_share([(0.4, 0.5)], 0.5, 0.5) is None


def test_a_front_behind_random_skipping_has_a_negative_gain() -> None:
    assert gain_over_dice([(0.4, 0.5)], DICE, 0.3) == pytest.approx(0)
    assert gain_over_dice([(0.45, 0.6)], DICE, 0.3) == pytest.approx(0.8)
    assert gain_over_dice([(0.35, 0.5)], DICE, 0.3) == pytest.approx(-0.5)
    assert gain_over_dice([(0.35, 0.5)], [(0.3, 1.0)], 0.3) is None
