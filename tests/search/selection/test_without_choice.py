"""The advice where baselines beat every trial, for each order of no adaptation and adapting on every sample."""

import pytest
from compared_rows import VIEW, gap, measured, row

from search.selection.advice import Verdict
from search.selection.differences import TO_NONE
from search.selection.verdict import advise
from search.selection.view import View

TOLERANCE = 0.005


def advice(none, everything, reach=0.0005, beaten=12, view=VIEW, **others):
    _, baselines = measured(none=none, everything=everything, random=None, chosen=0.05, reach=reach, view=view)
    return advise(None, baselines | others, [], view, TOLERANCE, beaten)


@pytest.mark.parametrize(
    ("none", "everything", "reach", "verdict", "title"),
    [
        (0.08, 0.04, 0.001, Verdict.DO_NOT_ADAPT, "Do not adapt: it gains nothing."),
        (0.08, 0.08, 0.001, Verdict.DO_NOT_ADAPT, "Do not adapt: it gains nothing."),
        (0.08, 0.0801, 0.0001, Verdict.DO_NOT_ADAPT, "Do not adapt: it gains next to nothing."),
        (0.08, 0.0805, 0.001, Verdict.NOT_SETTLED, "adapting is ahead of not adapting, but not clearly."),
        (0.08, 0.09, 0.001, Verdict.ADAPT_ON_ALL, "Adapt on every sample."),
        (None, 0.09, 0.001, Verdict.NOT_SETTLED, "the baseline 'none' was not measured."),
        (0.08, None, 0.001, Verdict.NOT_SETTLED, "the baseline 'all' was not measured."),
    ],
)
def test_the_baselines_decide(none, everything, reach, verdict, title):
    found = advice(none, everything, reach)
    assert found.verdict is verdict and found.title.endswith(title)
    if none and everything:
        assert "Adapting on every sample" in found.reasons[-2]
        assert found.reasons[-1] == "Each of the 12 trials is beaten by a baseline on validation."


def test_a_single_trial_is_told_as_one():
    assert advice(0.08, 0.04, beaten=1).reasons[-1] == "A baseline beats the only trial on validation."


@pytest.mark.parametrize(("name", "p_holm", "verdict"), [
    ("published", 0.01, Verdict.NOT_SETTLED),
    ("random 30%", 0.01, Verdict.NOT_SETTLED),
    ("published", 0.2, Verdict.DO_NOT_ADAPT),
    ("all", 0.01, Verdict.DO_NOT_ADAPT),
])  # fmt: skip
def test_a_baseline_that_is_clearly_better_than_none_leaves_it_open(name, p_holm, verdict):
    better = {name: row(name, 0.085, 0.3, **gap(TO_NONE, 0.005, 0.001, p_holm))}
    found = advice(0.08, 0.04, **better) if name != "all" else advice(0.08, 0.0801, 0.0001)
    assert found.verdict is verdict
    if verdict is Verdict.NOT_SETTLED:
        assert found.title == f"Not settled: {name} is clearly better than not adapting, at 0.0850 with 30% skipped."


def test_without_a_beaten_trial_or_without_test_nothing_is_settled():
    assert advice(0.08, 0.04, beaten=0).title == "Not settled: no trial is recommended."
    on_validation = advice(0.08, 0.04, view=View("valid", "hr_at_10"))
    assert on_validation.verdict is Verdict.NOT_SETTLED and "not measured on test" in on_validation.title
