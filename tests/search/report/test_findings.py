"""The advice of a report, in each order of no adaptation, adapting on every sample and the front."""

import pytest
from compared_rows import gap, measured

from search.report import findings
from search.selection.differences import TO_NONE, difference_columns
from search.selection.view import View


def row(name, quality, rate, view):
    return {"trial_id": name, view.column: quality, f"{view.split}_filter_rate": rate, "on_test_front": True}


def advised(view, none, everything, chosen, other=None):
    """The answer on adapting, for a front of the chosen point and, if given, another one that skips less."""
    front = [row("t0001", chosen, 0.6, view), row("t0002", other, 0.2, view)][: 1 + (other is not None)]
    if none is not None:
        columns = difference_columns(TO_NONE, view.metric)
        for each in front:
            gap = each[view.column] - none
            each.update(zip(columns, (gap, gap - 1e-5, gap + 1e-5, 0.001, 0.01), strict=True))
    rows = [row("none", none, 1.0, view), row("all", everything, 0.0, view)]
    baselines = {each["trial_id"]: each for each in rows if each[view.column] is not None}
    return findings.findings(front[0], baselines, front, view, 0.005)[0]


NONE, ALL = "the front is no adaptation:", "the front is adapting on every sample:"
CHOSEN, OTHER = (f"the front is the front's t000{number}:" for number in (1, 2))
VIEWS = [View("test", "hr_at_10"), View("valid", "ndcg_at_50")]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("none", "everything", "chosen", "other", "advice"),
    [
        (0.0141, 0.0219, 0.0124, None, ALL),  # none, all and the chosen point in each order
        (0.0141, 0.0219, 0.0141, None, ALL),
        (0.0219, 0.0141, 0.0124, None, NONE),
        (0.0219, 0.0124, 0.0141, None, NONE),
        (0.0141, 0.0124, 0.0219, None, CHOSEN),
        (0.0124, 0.0141, 0.0219, None, ""),  # the chosen point is the answer and keeps the gain
        (0.0124, 0.0219, 0.0141, None, ""),
        (0.0141, 0.0219, 0.0124, 0.0230, OTHER),  # and with another point of the front
        (0.0141, 0.0219, 0.0124, 0.0219, OTHER),  # a tie goes to the one that skips more
        (0.0219, 0.0141, 0.0124, 0.0230, OTHER),
        (0.0219, 0.0219, 0.0219, 0.0219, NONE),
        (0.0141, 0.0141, 0.0219, 0.0219, CHOSEN),
        (0.0219, 0.0141, 0.0219, 0.0124, NONE),
    ],
)
def test_the_advice_is_the_best_of_none_all_and_the_front(view, none, everything, chosen, other, advice):
    found = advised(view, none, everything, chosen, other)
    assert [words for words in (NONE, ALL, CHOSEN, OTHER) if words in found.text] == ([advice] if advice else [])
    if advice:
        best = max(none, everything, chosen, other or 0)
        assert "The best of no adaptation" in found.text and f": {best:.4f} with " in found.text
    assert ("gains nothing" in found.title) == (everything <= none)
    assert (found.title == "Adapting gains nothing") == (everything <= none and advice == NONE)


def test_no_adaptation_is_named_before_a_point_that_skips_as_much():
    view = VIEWS[0]
    frozen, everything = row("none", 0.0219, 1.0, view), row("all", 0.0141, 0.0, view)
    skips_all = row("t0001", 0.0219, 1.0, view)
    found = findings.findings(skips_all, {"none": frozen, "all": everything}, [skips_all], view, 0.005)
    assert NONE in found[0].text


@pytest.mark.parametrize(("none", "everything"), [(None, 0.0219), (0.0219, None), (None, None)])
def test_without_both_baselines_there_is_no_advice(none, everything):
    found = advised(VIEWS[0], none, everything, 0.0141)
    assert found.text.startswith("Unknown: ") and "highest" not in found.text


def test_a_point_of_the_front_that_was_not_measured_is_not_advised():
    view = VIEWS[0]
    none, everything = row("none", 0.0141, 1.0, view), row("all", 0.0219, 0.0, view)
    chosen, unmeasured = row("t0001", 0.0124, 0.6, view), row("t0003", None, 0.9, view)
    found = findings.findings(chosen, {"none": none, "all": everything}, [chosen, unmeasured], view, 0.005)
    assert ALL in found[0].text


def test_whether_more_trials_would_pay_is_said_with_the_command() -> None:
    assert findings.more_trials(None, 0.1, 24) is None
    little, much = findings.more_trials(0.004, None, 48), findings.more_trials(0.031, None, 48)
    assert (
        little is not None and little.title == "More trials would hardly pay" and "add 0.4% to the area" in little.text
    )
    assert much is not None and much.title == "More trials may pay" and "--resume --trials 48" in much.text


def test_the_area_of_the_expected_gain_is_that_within_the_constraints() -> None:
    found = findings.more_trials(0.363, None, 128, bounded=True)
    assert found is not None
    assert "expects the next trial to add 36.3% to the front's area within the constraints; the same" in found.text


def test_a_front_that_still_grows_is_never_told_to_be_enough() -> None:
    """The health check says so of the same search."""
    found = findings.more_trials(0.003, 0.055, 128)
    assert found is not None and found.title == "More trials may pay"
    assert found.text.startswith("The last quarter of the trials brought 5.5% of the front's area. The model")


@pytest.mark.parametrize(
    ("everything", "reach", "tone", "title"),
    [
        (0.07, 0.001, "bad", "Adapting gains nothing"),
        (0.09, 0.001, "good", "Adapting pays"),
        (0.0802, 0.001, "note", "Whether adapting pays is not settled"),
        (0.0802, 0.0001, "note", "Adapting gains next to nothing"),
    ],
)
def test_without_a_choice_the_baselines_tell_whether_adapting_pays(everything, reach, tone, title):
    _, baselines = measured(none=0.08, everything=everything, random=None, chosen=0.07, reach=reach)
    adapting, no_trial = findings.without_choice(baselines, VIEWS[0], 0.005, 12)
    assert (adapting.tone, adapting.title) == (tone, title) and "chosen" not in adapting.text
    assert no_trial.text == "Each of the 12 trials is beaten by a baseline on validation."


def test_without_a_choice_random_skipping_may_still_gain():
    _, baselines = measured(none=0.08, everything=0.07, random=0.085, chosen=0.07)
    baselines["random"] |= gap(TO_NONE, 0.005, 0.001, p_holm=0.01)
    adapting, _ = findings.without_choice(baselines, VIEWS[0], 0.005, 12)
    assert adapting.title == "Adapting on all gains nothing, adapting on some scores higher"
