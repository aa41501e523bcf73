"""The two numbers that say how good a front is, by hand."""

import pytest

from search.selection.area import area_share, ends, gain_over_dice

DICE = [(0.5, 0.0), (0.4, 0.5), (0.3, 1.0)]  # adapting on everything, half at random, no adaptation
CORNER, OPPOSITE = ends(("hr_at_10", "filter_rate"), {"hr_at_10": 0.3}, {"hr_at_10": 0.5})


def test_only_area_above_no_adaptation_counts() -> None:
    assert area_share([(0.4, 0.5)], CORNER, OPPOSITE) == pytest.approx(0.25)
    assert area_share([(0.4, 0.5), (0.29, 0.99)], CORNER, OPPOSITE) == pytest.approx(0.25)
    assert area_share([(0.5, 1.0)], CORNER, OPPOSITE) == pytest.approx(1)
    assert area_share([(0.6, 1.0)], CORNER, OPPOSITE) == pytest.approx(1.5)
    assert area_share([], CORNER, OPPOSITE) == 0


def test_where_adapting_does_not_pay_there_is_no_area() -> None:
    assert area_share([(0.4, 0.5)], [0.5, 0.0], [0.5, 1.0]) is None


def test_a_front_behind_random_skipping_has_a_negative_gain() -> None:
    assert gain_over_dice([(0.4, 0.5)], DICE, CORNER) == pytest.approx(0)
    assert gain_over_dice([(0.45, 0.6)], DICE, CORNER) == pytest.approx(0.8)
    assert gain_over_dice([(0.35, 0.5)], DICE, CORNER) == pytest.approx(-0.5)
    assert gain_over_dice([(0.35, 0.5)], [(0.3, 1.0)], CORNER) is None


def test_with_the_cost_the_box_ends_at_that_of_no_adaptation() -> None:
    none, everything = {"hr_at_10": 0.3, "cost": 0.2}, {"hr_at_10": 0.5, "cost": 1.1}
    assert ends(("cost", "hr_at_10"), none, everything) == ([-1.1, 0.3], [-0.2, 0.5])
    corner, opposite = ends(("hr_at_10", "filter_rate", "cost"), none, everything)
    assert (corner, opposite) == ([0.3, 0.0, -1.1], [0.5, 1.0, -0.2])
    assert area_share([(0.4, 0.5, -0.65)], corner, opposite) == pytest.approx(1 / 8)
