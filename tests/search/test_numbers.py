"""Numbers as a report prints them."""

import pytest

from search import numbers


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00009, "< .001"), (0.0052, "< .01"), (0.01, "= .01"), (0.0234, "= .023"), (1.0, "= 1"), (0.5, "= .5")],
)
def test_p_values_have_bounds_where_digits_say_nothing(value, text):
    assert numbers.p_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(52.66, "53"), (1.34, "1.3"), (0.0468, "0.047"), (1180.4, "1,180"), (0.0, "0"), (99.7, "100"), (99.4, "99")],
)
def test_seconds_have_two_digits(value, text):
    assert numbers.seconds(value) == text


def test_a_negative_share_has_a_true_minus_sign():
    assert numbers.percent(-0.001) == "\N{MINUS SIGN}0.1%"
    assert numbers.percent(-0.0) == numbers.percent(-0.0004) == "0.0%"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"top_k": 66, "entropy_quantile": 0.8641, "cosine_threshold": 0.4612}, "k66 q.86 c.46"),
        ({"top_k": None, "entropy_quantile": 1.0, "cosine_threshold": 0.0213}, "k=all q1 c.021"),
        ({"cosine_threshold": None, "criterion": "loss", "correction": "none"}, "c=null crit=loss corr=none"),
        ({"criterion": "loss", "entropy_quantile": 0.5, "top_k": 50}, "k50 q.5 crit=loss"),
        ({"top_k": float("nan"), "learning_rate": 1e-4}, "k=all lr.0001"),
        ({"admit": "uncertain", "new_transitions_only": True}, "admi=uncertain nto=true"),
        ({}, ""),
    ],
)
def test_a_configuration_in_a_few_characters(parameters, text):
    assert numbers.configuration(parameters) == text


@pytest.mark.parametrize(("shares", "text"), [([0.7, 0.651], "65% to 70%"), ([0.67], "67%"), ([0.671, 0.674], "67%")])
def test_a_spread_of_shares(shares: list[float], text: str) -> None:
    assert numbers.spread(shares) == text
