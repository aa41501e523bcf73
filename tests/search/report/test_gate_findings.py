"""The findings on the chosen gate and the front: the published gate, random skipping, and the front on test."""

import pytest
from compared_rows import VIEW, gap, row

from search.report import gate_findings
from search.selection.differences import TO_CHOSEN, TO_NONE, TO_RANDOM, difference_columns
from search.selection.judgement import Judgement, judge


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
    chosen, published = row("t0001", 0.08, 0.6, VIEW), row("published", 0.08 - ahead, rate, VIEW)
    numbers = (-ahead, -ahead - 0.0005, -ahead + 0.0005, 0.001, p_holm)
    published.update(zip(difference_columns(TO_CHOSEN, VIEW.metric), numbers, strict=True))
    found = gate_findings.published_gate(chosen, published, VIEW)
    assert found is not None and (found.tone, found.title) == (tone, title)


def test_points_that_stand_for_others_are_named_as_such() -> None:
    first = {"trial_id": "trial-0001", "test_hr_at_10": 0.5, "test_filter_rate": 0.2, "group": "trial-0001"}
    alike = [{"trial_id": f"trial-000{n}", "group": "trial-0001"} for n in (2, 3)]
    for others, said in (([], ""), (alike[:1], "tell another point from one of these"), (alike, "tell 2 other points")):
        found = gate_findings.front_on_test(first, None, [first, *others], VIEW)
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
    front = [
        row(name, 0.5, rate, VIEW) | gap(TO_NONE, 0.01, 0.001) | gap(TO_RANDOM, ahead, 0.001)
        for name, rate, ahead in (("t0001", 0.6, chosen_ahead), ("t0002", 0.2, 0.0001))
    ]
    found = gate_findings.front_on_test(front[0], None, front, VIEW)
    holding = [judge(one, front, VIEW, "t0001").judgement for one in front].count(Judgement.HOLDS)
    assert (
        found is not None
        and found.title == f"{holding} of 2 front points {'holds' if holding == 1 else 'hold'} on test"
    )
    assert found.tone == tone and text in found.text


def test_a_single_point_is_compared_with_random_skipping_once() -> None:
    one = row("t0001", 0.5, 0.6, VIEW) | gap(TO_RANDOM, 0.002, 0.001, 0.01)
    assert gate_findings.along_front([one], VIEW) == ""
    assert (
        "2 of 2 front points score higher; with all comparisons counted, 2 clearly higher and none"
        in gate_findings.along_front([one] * 2, VIEW)
    )
