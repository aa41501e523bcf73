"""The advice of a report, in each order of no adaptation, adapting on every sample and the front."""

import pytest
from compared_rows import gap

from search.report import findings
from search.selection.differences import TO_CHOSEN, TO_NONE, TO_RANDOM, difference_columns
from search.selection.judgement import Judgement, judge
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


NONE, ALL = "the front, no adaptation scores", "the front, adapting on every sample scores"
CHOSEN, OTHER = (f"the front, the front's t000{number} scores" for number in (1, 2))
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
        assert f" scores highest: {best:.4f} with " in found.text
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


@pytest.mark.parametrize(
    ("ahead", "p_holm", "rate", "tone", "title"),
    [
        (0.005, 0.01, 0.5, "good", "Better than the published gate in both objectives"),
        (0.005, 0.01, 0.595, "good", "Higher HR@10 than the published gate, with as many passes skipped"),
        (-0.00002, 0.9, 0.5, "good", "More passes skipped than by the published gate, at no clear loss of HR@10"),
        (-0.005, 0.01, 0.7, "bad", "Worse than the published gate in both objectives"),
        (-0.00002, 0.9, 0.7, "note", "The published gate skips more, at about the same HR@10"),
        (-0.00002, 0.9, 0.6, "note", "Level with the published gate"),
        (0.005, 0.01, 0.7, "note", "Higher HR@10 than the published gate, but fewer passes skipped"),
        (-0.005, 0.01, 0.5, "note", "More passes skipped than by the published gate, but a lower HR@10"),
    ],
)
def test_the_published_gate_is_compared_by_the_paired_interval(ahead, p_holm, rate, tone, title):
    view = VIEWS[0]
    chosen, published = row("t0001", 0.08, 0.6, view), row("published", 0.08 - ahead, rate, view)
    numbers = (-ahead, -ahead - 0.0005, -ahead + 0.0005, 0.001, p_holm)
    published.update(zip(difference_columns(TO_CHOSEN, view.metric), numbers, strict=True))
    found = findings.findings(chosen, {"published": published}, [chosen], view, 0.005)
    assert (tone, title) in [(finding.tone, finding.title) for finding in found]


def test_points_that_stand_for_others_are_named_as_such() -> None:
    row = {"trial_id": "trial-0001", "test_hr_at_10": 0.5, "test_filter_rate": 0.2, "group": "trial-0001"}
    alike = [{"trial_id": f"trial-000{n}", "group": "trial-0001"} for n in (2, 3)]
    view = View("test", "hr_at_10")
    for others, said in (([], ""), (alike[:1], "tell another point from one of these"), (alike, "tell 2 other points")):
        found = findings._front(row, None, [row, *others], view)
        assert found is not None and said in found.text and ("search.retest" in found.text) == bool(others)


@pytest.mark.parametrize(
    ("chosen_ahead", "tone", "text"),
    [
        (
            0.002,
            "note",
            "none of the 2 points is clearly beaten by another; 1 is not clearly different from random skip",
        ),
        (0.0001, "note", "2 are not clearly different from random skipping. The chosen configuration does not hold."),
        (-0.002, "bad", "1 is worse than random skipping; 1 is not clearly different from random skipping. The chosen"),
    ],
)
def test_only_what_the_table_says_to_hold_is_counted_as_holding(chosen_ahead: float, tone: str, text: str) -> None:
    view = VIEWS[0]
    front = [
        row(name, 0.5, rate, view) | gap(TO_NONE, 0.01, 0.001) | gap(TO_RANDOM, ahead, 0.001)
        for name, rate, ahead in (("t0001", 0.6, chosen_ahead), ("t0002", 0.2, 0.0001))
    ]
    found = findings._front(front[0], None, front, view)
    holding = [judge(one, front, view, "t0001").judgement for one in front].count(Judgement.HOLDS)
    assert (
        found is not None
        and found.title == f"{holding} of 2 front points {'holds' if holding == 1 else 'hold'} on test"
    )
    assert found.tone == tone and text in found.text


def test_a_single_point_is_compared_with_random_skipping_once() -> None:
    view = VIEWS[0]
    one = row("t0001", 0.5, 0.6, view) | gap(TO_RANDOM, 0.002, 0.001, 0.01)
    assert findings._along([one], view) == ""
    assert "2 of 2 front points score higher; 2 clearly higher and none clearly lower" in findings._along(
        [one] * 2, view
    )


def test_whether_more_trials_would_pay_is_said_with_the_command() -> None:
    assert findings.more_trials(None, 0.1, 24) is None
    little, much = findings.more_trials(0.004, None, 48), findings.more_trials(0.031, None, 48)
    assert (
        little is not None and little.title == "More trials would hardly pay" and "add 0.4% to the area" in little.text
    )
    assert much is not None and much.title == "More trials may pay" and "--resume --trials 48" in much.text


def test_a_front_that_still_grows_is_never_told_to_be_enough() -> None:
    """The health check says so of the same search."""
    found = findings.more_trials(0.003, 0.055, 128)
    assert found is not None and found.title == "More trials may pay"
    assert found.text.startswith("The last quarter of the trials brought 5.5% of the front's area. The model")
