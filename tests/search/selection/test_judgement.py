"""Whether a row holds on test: one rule for the front's points and the baselines."""

import pytest
from compared_rows import VIEW, gap, row

from search.selection.differences import TO_NONE, TO_RANDOM
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
    ("quality", "rate", "beaten"),
    [
        (0.081, 0.6, True), (0.08, 0.6, True), (0.081, 0.5, True), (0.08, 0.5, False), (0.079, 0.9, False),
        (0.09, 0.4, False),
    ],
)  # fmt: skip
def test_a_front_point_that_is_better_in_both_objectives_is_named(quality, rate, beaten):
    found = judge(row("trial-0001", 0.08, 0.5), [row("trial-0002", quality, rate), row("trial-0003", None, 0.9)], VIEW)
    assert (found.judgement is Judgement.BY_POINT, found.by) == (beaten, "trial-0002" if beaten else "")


def test_a_baseline_is_not_compared_with_itself_nor_random_skipping_with_its_own_curve():
    assert judge(row("none", 0.08, 1.0, **gap(TO_NONE, 0.0, 0.0)), [], VIEW).judgement is Judgement.HOLDS
    assert judge(row("random 25%", 0.08, 0.25, **gap(TO_RANDOM, -1.0, 0.0)), [], VIEW).judgement is Judgement.HOLDS


def test_without_test_there_is_no_judgement():
    assert judge(row("trial-0001", None, 0.5), [], VIEW).judgement is Judgement.UNKNOWN
    assert judge(row("trial-0001", 0.08, 0.5), [], View("valid", "hr_at_10")).judgement is Judgement.UNKNOWN


def test_every_word_is_explained_and_short():
    assert {*MEANINGS, Judgement.UNKNOWN} == set(Judgement) and max(map(len, Judgement)) <= 12
