"""The sentences that every kind of advice shares."""

import pytest
from compared_rows import VIEW, measured

from search.selection.advice import Advice, Verdict, gain_in_words, gain_of_all, negligible, without_anchor
from search.selection.view import Difference


def test_an_advice_is_its_title_and_its_reasons():
    assert str(Advice(Verdict.USE, "Use it.", ("It gains.", "It is cheap."))) == "Use it. It gains. It is cheap."


@pytest.mark.parametrize(
    ("everything", "text"),
    [
        (0.09, "Adapting on every sample adds 12.5% (95%: 11.9% to 13.1%) of HR@10."),
        (0.07, "Adapting on every sample costs 12.5% (95%: 11.9% to 13.1%) of HR@10."),
        (0.08, "Adapting on every sample changes nothing: 0.0% (95%: \N{MINUS SIGN}0.6% to 0.6%) of HR@10."),
    ],
)
def test_the_gain_of_adapting_is_a_share_of_the_quality_without(everything, text):
    _, baselines = measured(none=0.08, everything=everything, random=None, chosen=0.08)
    assert gain_in_words(gain_of_all(baselines, VIEW), 0.08, VIEW) == text


def test_a_gain_is_negligible_only_by_its_whole_interval():
    assert negligible(Difference(0.0001, -0.0001, 0.0004), 0.08, 0.005)
    assert not negligible(Difference(0.0001, -0.0001, 0.0005), 0.08, 0.005)
    assert not negligible(Difference(0.0001), 0.08, 0.005)


def test_both_anchors_must_have_been_measured():
    _, baselines = measured(none=0.08, everything=0.09, random=None, chosen=0.08)
    assert without_anchor(baselines, VIEW) is None
    del baselines["all"]
    missing = without_anchor(baselines, VIEW)
    assert missing is not None and missing.title == "Not settled: the baseline 'all' was not measured."
