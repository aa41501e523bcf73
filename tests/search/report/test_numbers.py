"""Numbers as a report prints them."""

import pytest

from search.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "+0.0012"), (-0.00123, "\N{MINUS SIGN}0.0012"), (-0.00004, "\N{MINUS SIGN}0.00004"), (0.0, "0.0000"),
        (None, "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_signed(value, text):
    assert numbers.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04567, "0.0457"), (9.999e-05, "0.0001"), (1180.4, "1,180"), (52.66, "52.7"), (0.0, "0")]
)
def test_significant(value, text):
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "0.0012 higher"), (-0.00123, "0.0012 lower"), (0.00004, "0.00004 higher"), (1e-9, "the same")],
)
def test_higher_or_lower(value, text):
    assert numbers.higher_or_lower(value) == text


@pytest.mark.parametrize("printed", [numbers.score, numbers.percent, numbers.correlation, numbers.significant])
def test_what_was_not_measured_is_a_dash(printed):
    assert printed(None) == "\N{EN DASH}"


def test_scores_shares_and_correlations():
    assert numbers.score(0.08751) == "0.0875"
    assert numbers.percent(0.4321) == "43.2%" and numbers.percent(0.4321, 0) == "43%"
    assert numbers.correlation(-0.618) == "\N{MINUS SIGN}0.62" and numbers.correlation(0.618) == "+0.62"
