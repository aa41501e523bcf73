"""Differences and shares of a result row, as reports quote them."""

import pytest
from compared_rows import VIEW, gap, row

from search.selection.differences import TO_ALL
from search.selection.view import Difference, View


@pytest.mark.parametrize(
    ("low", "high", "higher", "lower"),
    [(0.1, 0.2, True, False), (-0.2, -0.1, False, True), (-0.1, 0.1, False, False), (0.0, 0.1, False, False)],
)
def test_an_interval_decides(low, high, higher, lower):
    difference = Difference(0.0, low, high)
    assert (difference.higher, difference.lower, difference.significant) == (higher, lower, higher or lower)
    turned = difference.reversed()
    assert (turned.higher, turned.lower) == (lower, higher)


def test_without_an_interval_nothing_is_decided():
    difference = Difference(0.1)
    assert not (difference.higher or difference.lower or difference.measured or difference.survives_holm)
    assert (str(difference), difference.percents) == ("0.1000 higher", "")


def test_a_relative_difference():
    share = Difference(-0.002, -0.004, 0.001, 0.02).relative(0.1)
    assert share[:4] == pytest.approx((-0.02, -0.04, 0.01, 0.02))
    assert share.percents == " (95%: \N{MINUS SIGN}4.0% to 1.0%)"
    assert Difference(0.002).relative(0.0) == Difference(0.0)


def test_words_have_interval_and_p():
    expected = "0.0012 higher (95% interval +0.0003 to +0.0021, p < .01)"
    assert str(Difference(0.0012, 0.0003, 0.0021, 0.004)) == expected


def test_skipped_passes_are_those_that_could_be_computed():
    mine = row("trial-0001", 0.1, 0.42, test_filtered_by_seen=0.397, valid_filtered_by_seen=None)
    assert VIEW.skipped(mine) == pytest.approx((0.42 - 0.397) / 0.603) and VIEW.filter_rate(mine) == 0.42
    assert View("valid", "hr_at_10").skipped(mine) == 0.42


def test_a_recorded_difference_is_the_row_s_own():
    mine = row("trial-0001", 0.1, 0.5, **gap(TO_ALL, -0.01, 0.002, p_holm=0.03))
    found = VIEW.recorded(mine, TO_ALL)
    assert found is not None and (found.value, found.p_holm) == (-0.01, 0.03) and found.lower and found.survives_holm
    assert VIEW.recorded(mine, "vs_none") is None and View("valid", "hr_at_10").recorded(mine, TO_ALL) is None
