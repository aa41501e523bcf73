"""Constraints on results: their form, their bounds and their messages."""

import pytest

from search.spec.constraint import Constraint, all_met, beside

ANCHORS = {"all": {"hr_at_10": 0.5, "arithmetic": 1.0}, "none": {}}


@pytest.mark.parametrize(
    ("text", "bound", "words"),
    [
        (">= 0.98 * all", 0.49, "HR@10 at least 0.98 times that of the anchor all"),
        (">=.4", 0.4, "HR@10 at least 0.4"),
        ("<= 1*none", None, "HR@10 at most 1 times that of the anchor none"),
    ],
)
def test_a_bound_is_absolute_or_relative_to_an_anchor(text: str, bound: float | None, words: str) -> None:
    constraint = Constraint.of("hr_at_10", text)
    assert constraint.bound(ANCHORS) == bound and str(constraint) == words


@pytest.mark.parametrize("text", ["0.5", "> 0.5", ">= all", ">= 0.5 * random", ">= -1", ">= 0.5 * all * 2", ""])
def test_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r'hr_at_10: given .*, expected a bound such as ">= 0.05"'):
        Constraint.of("hr_at_10", text)


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(ValueError, match='given the metric "hr@10", expected one of hr_at_10'):
        Constraint.of("hr@10", ">= 0.5")


def test_a_result_meets_all_constraints_or_not() -> None:
    constraints = {"hr_at_10": ">= 0.98 * all", "arithmetic": "<= 0.5"}
    assert all_met(constraints, {"hr_at_10": 0.49, "arithmetic": 0.5}, ANCHORS)
    assert not all_met(constraints, {"hr_at_10": 0.489, "arithmetic": 0.5}, ANCHORS)
    assert not all_met(constraints, {"hr_at_10": 0.5, "arithmetic": 0.51}, ANCHORS)
    assert all_met({"hr_at_10": "<= 1 * none"}, {"hr_at_10": 0.9}, ANCHORS)  # the anchor's measurement failed
    excess = Constraint.of("arithmetic", "<= 0.5").excess({"arithmetic": 0.7}, ANCHORS)
    assert excess == pytest.approx(0.2)


def test_a_lower_bound_on_an_objective_holds_for_all_that_is_better() -> None:
    bounds = {"hr_at_10": ">= 0.4", "ndcg_at_10": ">= 0.2", "filter_rate": "<= 0.9", "arithmetic": "<= 0.5"}
    assert beside(bounds, ["hr_at_10", "filter_rate"]) == {key: bounds[key] for key in list(bounds)[1:]}
    assert beside({"cost": "<= 0.5", "hr_at_10": ">= 0.4"}, ["cost", "hr_at_10"]) == {}
    assert beside({"cost": ">= 0.5"}, ["cost", "hr_at_10"]) == {"cost": ">= 0.5"}
