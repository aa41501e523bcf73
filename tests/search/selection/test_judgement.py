"""Whether a row holds on test: one rule for the front's points and the baselines."""

import pytest
from compared_rows import VIEW, gap, row

from search.selection.differences import RIVAL, TO_CHOSEN, TO_FRONT, TO_NONE, TO_RANDOM
from search.selection.judgement import MEANINGS, Judgement, judge
from search.selection.view import View


@pytest.mark.parametrize(
    ("to_none", "to_random", "judgement"),
    [
        (0.005, 0.002, Judgement.HOLDS),
        (0.005, None, Judgement.HOLDS),
        (None, None, Judgement.HOLDS),
        (-0.005, 0.002, Judgement.BY_NONE),
        (0.005, -0.002, Judgement.BY_RANDOM),
        (-0.005, -0.002, Judgement.BY_NONE),
        (0.0001, 0.002, Judgement.AS_NONE),
        (0.005, 0.0001, Judgement.AS_RANDOM),
        (0.0001, 0.0001, Judgement.AS_NONE),
    ],
)
@pytest.mark.parametrize("name", ["trial-0001", "published"])
def test_paired_intervals_judge_points_and_baselines_alike(name, to_none, to_random, judgement):
    gaps = gap(TO_NONE, to_none, 0.001) if to_none is not None else {}
    gaps |= gap(TO_RANDOM, to_random, 0.001) if to_random is not None else {}
    found = judge(row(name, 0.08, 0.5, **gaps), [], VIEW)
    assert found.judgement is judgement
    deciding = {Judgement.BY_NONE: to_none, Judgement.AS_NONE: to_none, Judgement.BY_RANDOM: to_random}
    if judgement in deciding:
        assert found.evidence is not None and found.evidence.value == deciding[judgement]


@pytest.mark.parametrize(
    ("ahead", "rate", "p_holm", "beaten"),
    [
        (0.001, 0.6, 0.01, True), (0.001, 0.5, 0.01, True), (0.001, 0.6, 0.2, False), (0.00002, 0.6, 0.9, False),
        (0.0, 0.6, 1.0, False), (-0.001, 0.9, 0.01, False), (0.01, 0.4, 0.01, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chosen", ["trial-0001", "trial-0002", "trial-0009"])
def test_a_front_point_that_skips_as_much_and_is_clearly_better_is_named(ahead, rate, p_holm, beaten, chosen):
    """The row, its rival, or neither is the chosen point, whose comparisons the files hold."""
    mine, rival = row("trial-0001", 0.08, 0.5), row("trial-0002", 0.08 + ahead, rate)
    holder, kind, sign = {
        "trial-0001": (rival, TO_CHOSEN, 1),
        "trial-0002": (mine, TO_CHOSEN, -1),
        "trial-0009": (mine, TO_FRONT, -1),
    }[chosen]
    holder |= gap(kind, sign * ahead, 0.0005, p_holm) | {RIVAL: "trial-0002"}
    found = judge(mine, [mine, rival, row("trial-0003", None, 0.9)], VIEW, chosen)
    assert (found.judgement is Judgement.BY_POINT, found.by) == (beaten, "trial-0002" if beaten else "")
    if beaten:
        assert found.evidence is not None and found.evidence.value == pytest.approx(ahead)


def test_a_front_point_without_a_recorded_comparison_beats_nobody():
    rival = row("trial-0002", 0.09, 0.9, **gap(TO_CHOSEN, 0.01, 0.001, 0.01))
    assert judge(row("trial-0001", 0.08, 0.5), [rival], VIEW, "trial-0009").judgement is Judgement.HOLDS


def test_the_chosen_point_is_judged_by_random_skipping_at_its_own_rate():
    chosen = row("trial-0001", 0.08, 0.5, **gap(TO_RANDOM, -0.002, 0.001))
    random = row("random", 0.078, 0.5, **gap(TO_CHOSEN, -0.002, 0.001))
    assert judge(chosen, [], VIEW, "trial-0001", random).judgement is Judgement.HOLDS
    assert judge(chosen, [], VIEW, "trial-0009", random).judgement is Judgement.BY_RANDOM


def test_a_baseline_is_not_compared_with_itself_nor_random_skipping_with_its_own_curve():
    assert judge(row("none", 0.08, 1.0, **gap(TO_NONE, 0.0, 0.0)), [], VIEW).judgement is Judgement.HOLDS
    assert judge(row("random 25%", 0.08, 0.25, **gap(TO_RANDOM, -1.0, 0.0)), [], VIEW).judgement is Judgement.HOLDS


def test_without_test_there_is_no_judgement():
    assert judge(row("trial-0001", None, 0.5), [], VIEW).judgement is Judgement.UNKNOWN
    assert judge(row("trial-0001", 0.08, 0.5), [], View("valid", "hr_at_10")).judgement is Judgement.UNKNOWN


def test_every_word_is_explained_and_short():
    assert {*MEANINGS, Judgement.UNKNOWN} == set(Judgement) and max(map(len, Judgement)) <= 12
