"""The columns that a report quotes, and differences between rows."""

import pytest

from search.report.view import Difference, View
from search.selection.differences import TO_ALL, difference_columns, interval_columns

MINUS = "\N{MINUS SIGN}"
ROW = {"trial_id": "a", "test_hr_at_50": 0.25, "valid_hr_at_50": 0.3, "test_filter_rate": 0.5, "valid_filter_rate": 0.4}
OTHER = {"trial_id": "b", "test_hr_at_50": 0.24, "valid_hr_at_50": 0.28}


def with_interval(**more: float | None) -> dict[str, object]:
    low, high = interval_columns("hr_at_50")
    return ROW | {low: 0.245, high: 0.255, **more}


def test_a_view_quotes_one_metric_on_one_split() -> None:
    test, valid = View("test", "hr_at_50"), View("valid", "hr_at_50")
    assert (test.word, valid.word, test.label, test.column) == ("test", "validation", "HR@50", "test_hr_at_50")
    assert (test.quality(ROW), valid.quality(ROW)) == (0.25, 0.3)
    assert (test.filter_rate(ROW), valid.filter_rate(ROW)) == (0.5, 0.4)


def test_an_interval_is_told_where_it_was_measured() -> None:
    assert View("test", "hr_at_50").interval(with_interval()) == " (95% interval 0.2450 to 0.2550)"
    assert View("valid", "hr_at_50").interval(with_interval()) == View("test", "hr_at_50").interval(ROW) == ""


def test_a_difference_has_the_evidence_of_its_first_row() -> None:
    _, low, high, p, _ = difference_columns(TO_ALL, "hr_at_50")
    row = ROW | {low: 0.004, high: 0.016, p: 0.004}
    difference = View("test", "hr_at_50").difference(row, OTHER, TO_ALL)
    assert difference == (pytest.approx(0.01), 0.004, 0.016, 0.004) and difference.measured and difference.significant
    assert str(difference) == "0.0100 higher (95% interval +0.0040 to +0.0160, p = 0.004)"
    back = difference.reversed()
    assert str(back) == f"0.0100 lower (95% interval {MINUS}0.0160 to {MINUS}0.0040, p = 0.004)"
    assert back.reversed() == difference
    assert str(View("valid", "hr_at_50").difference(row, OTHER, TO_ALL)) == "0.0200 higher"


@pytest.mark.parametrize(
    ("low", "high", "significant"),
    [
        (0.1, 0.2, True),
        (-0.2, -0.1, True),
        (0.0, 0.2, False),
        (-0.1, 0.0, False),
        (-0.1, 0.1, False),
        (None, 0.2, False),
    ],
)
def test_a_difference_is_significant_if_its_interval_excludes_0(
    low: float | None, high: float | None, significant: bool
) -> None:
    assert Difference(0.1, low, high, 0.5).significant is significant
