"""The verdict for every order of no adaptation, adapting on everything, random skipping and the choice."""

from itertools import permutations, product

import pytest
from compared_rows import VIEW, gap, measured, row

from search.report.findings import findings
from search.selection.advice import Verdict, negligible
from search.selection.differences import TO_ALL, TO_CHOSEN, TO_NONE
from search.selection.judgement import Judgement, judge
from search.selection.verdict import advise
from search.selection.view import Difference, View

NONE, ALL, RANDOM, USE, OPEN = (
    Verdict.DO_NOT_ADAPT, Verdict.ADAPT_ON_ALL, Verdict.SKIP_AT_RANDOM, Verdict.USE, Verdict.NOT_SETTLED,
)  # fmt: skip
NAMES = ("none", "everything", "random", "chosen")
TOLERANCE = 0.005


def advice(reach=0.0005, rate=0.5, front=(), tolerance=TOLERANCE, view=VIEW, **values):
    chosen, baselines = measured(**values, reach=reach, rate=rate, view=view)
    return advise(chosen, baselines, [chosen, *front], view, tolerance)


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_of_clear_differences_the_best_is_advised(order):
    values = {name: 0.09 - 0.005 * place for place, name in enumerate(order)}
    best = {"none": NONE, "everything": ALL, "random": RANDOM, "chosen": USE}[order[0]]
    assert advice(**values).verdict is best


@pytest.mark.parametrize(
    ("none", "everything", "random", "chosen", "verdict"),
    [
        (0.08, 0.08, 0.08, 0.08, NONE),  # ties
        (0.08, 0.08, 0.07, 0.08, NONE),
        (0.07, 0.08, 0.08, 0.08, RANDOM),
        (0.07, 0.08, 0.07, 0.08, USE),
        (0.07, 0.08, 0.08, 0.07, RANDOM),
        (0.07, 0.08, 0.07, 0.07, ALL),
        (0.07, 0.07, 0.07, 0.08, USE),
        (0.07, 0.07, 0.08, 0.07, RANDOM),
        (0.0141, 0.0219, 0.0130, 0.0124, ALL),  # the search of the issue: the choice keeps none of the gain
        (0.0700, 0.0800, 0.0780, 0.0798, USE),  # a cost of 0.25%
        (0.0700, 0.0800, 0.0780, 0.0790, ALL),  # clearly more than the 0.5% that are tolerated
        (0.0700, 0.0800, 0.0780, 0.0794, OPEN),  # maybe more than that
        (0.0700, 0.0800, 0.0794, 0.0797, OPEN),  # not clearly ahead of random skipping, which costs too much
        (0.0700, 0.0800, 0.0797, 0.0798, RANDOM),
        (0.0700, 0.0704, 0.0701, 0.0702, OPEN),  # ahead of not adapting, but not clearly
        (0.0700, 0.0800, None, 0.0798, OPEN),
        (0.0700, 0.0800, None, 0.0750, ALL),
        (0.0800, 0.0700, None, 0.0750, NONE),
        (None, 0.0800, 0.0780, 0.0798, OPEN),
        (0.0700, None, 0.0780, 0.0798, OPEN),
        (None, None, None, 0.0798, OPEN),
    ],
)  # fmt: skip
def test_ties_small_differences_and_missing_baselines(none, everything, random, chosen, verdict):
    assert advice(none=none, everything=everything, random=random, chosen=chosen).verdict is verdict


def test_a_missing_baseline_is_named():
    text = advice(none=None, everything=None, random=0.07, chosen=0.08).title
    assert text == "Not settled: the baselines 'none' and 'all' were not measured."
    assert "'random' was not measured" in advice(none=0.07, everything=0.08, random=None, chosen=0.0798).title


LEVELS = (0.0700, 0.0701, 0.0703, 0.0706, 0.0720)


@pytest.mark.parametrize("reach", [0.00005, 0.0002, 0.002])
def test_the_verdict_contradicts_no_difference_and_no_finding(reach):
    for values in product(LEVELS, repeat=4):
        named = dict(zip(NAMES, values, strict=True))
        chosen, baselines = measured(**named, reach=reach)
        found = advise(chosen, baselines, [chosen], VIEW, TOLERANCE)
        stated = findings(chosen, baselines, [chosen], VIEW, TOLERANCE)
        assert found.verdict is not USE or all(finding.tone != "bad" for finding in stated)
        _check(found.verdict, named, reach, {finding.title for finding in stated})


@pytest.mark.parametrize(("reach", "rate"), [(0.0005, 0.5), (0.0005, 0.505), (0.0005, 0.2), (0.02, 0.5), (0.0005, 0.8)])
def test_no_finding_speaks_against_using_the_choice_in_any_order_with_the_published_gate(reach, rate):
    """A difference counts only if it is clear, whatever its sign. The published gate skips `rate`, the choice half."""
    verdicts = set()
    for order in permutations((*NAMES, "published")):
        values = {name: 0.09 - 0.002 * place for place, name in enumerate(order)}
        quality = values.pop("published")
        chosen, baselines = measured(**values, reach=reach)
        ahead = quality - values["chosen"]
        clear = 0.01 if abs(ahead) > reach else 1.0
        baselines["published"] = row("published", quality, rate, **gap(TO_CHOSEN, ahead, reach, clear))
        other = row("trial-0009", values["chosen"] + 0.00002, 0.5, **gap(TO_CHOSEN, 0.00002, reach, 1.0))
        found = advise(chosen, baselines, [chosen, other], VIEW, TOLERANCE)
        stated = findings(chosen, baselines, [chosen, other], VIEW, TOLERANCE)
        verdicts.add(found.verdict)
        if found.verdict is USE:
            assert all(finding.tone != "bad" for finding in stated)
            assert ahead <= 0 or clear == 1.0 or rate < 0.5
        assert not any("does not hold" in finding.text for finding in stated if found.verdict is USE)
    assert (USE in verdicts) == (reach < 0.001)


def test_a_published_gate_that_is_clearly_better_and_skips_as_much_leaves_the_choice_open():
    values = {"none": 0.07, "everything": 0.08, "random": 0.07, "chosen": 0.08}
    chosen, baselines = measured(**values)
    baselines["published"] = row("published", 0.085, 0.6, **gap(TO_CHOSEN, 0.005, 0.001, p_holm=0.01))
    found = advise(chosen, baselines, [chosen], VIEW, TOLERANCE)
    assert found.verdict is OPEN and "the published gate is clearly better than trial-0001" in found.title


def _check(verdict, values, reach, titles):
    none, everything, random, chosen = (values[name] for name in NAMES)
    ways = (everything, random, chosen)
    if verdict is NONE:
        slight = max(way - none for way in ways) + reach <= TOLERANCE * none + 1e-12
        assert max(ways) <= none or slight
        assert not titles & {"Adapting pays", "Whether adapting pays is not settled"}
    if verdict is ALL:
        assert everything - none > reach and (everything - chosen) / everything > TOLERANCE
        assert "The gate beats random skipping" not in titles or chosen - random > reach
        assert any(title.startswith("Adapting pays") for title in titles)
    if verdict is USE:
        assert chosen - none > reach and chosen - random > reach and (everything - chosen) / everything <= TOLERANCE
        assert "The gate beats random skipping" in titles
    if verdict is RANDOM:
        assert random - none > reach and chosen - random <= reach + 1e-12
        assert (everything - random) / everything <= TOLERANCE and "The gate beats random skipping" not in titles


def test_every_verdict_occurs_in_that_product():
    found = set()
    for values in product(LEVELS, repeat=4):
        found.add(advice(**dict(zip(NAMES, values, strict=True)), reach=0.0002).verdict)
    assert found == set(Verdict)


def test_a_search_without_test_or_without_trials_is_not_settled():
    assert advise(None, {}, [], VIEW, TOLERANCE).title == "Not settled: no trial is recommended."
    view = View("valid", "hr_at_10")
    found = advice(none=0.07, everything=0.08, random=0.07, chosen=0.08, view=view)
    assert found.verdict is OPEN and "not measured on test" in found.title
    unmeasured = row("trial-0001", None, 0.5)
    assert advise(unmeasured, {}, [unmeasured], VIEW, TOLERANCE).verdict is OPEN


def test_a_choice_that_skips_nothing_is_adapting_on_every_sample():
    found = advice(none=0.07, everything=0.08, random=0.08, chosen=0.0801, rate=0.004)
    assert found.verdict is ALL and "found no pass that can be skipped" in str(found)


@pytest.mark.parametrize(
    ("values", "kind", "rate"),
    [
        ({"none": 0.08, "everything": 0.07, "random": 0.07, "chosen": 0.07}, TO_NONE, 0.1),
        ({"none": 0.07, "everything": 0.08, "random": 0.07, "chosen": 0.07}, TO_ALL, 0.1),
        ({"none": 0.07, "everything": 0.08, "random": 0.07, "chosen": 0.08}, TO_CHOSEN, 0.6),
    ],
)
def test_a_front_point_that_is_clearly_better_than_the_advice_leaves_it_open(values, kind, rate):
    plain = advice(**values)
    better = row("trial-0007", 0.085, rate, **gap(kind, 0.005, 0.001, p_holm=0.01))
    found = advice(**values, front=[better])
    assert plain.verdict is not OPEN and found.verdict is OPEN and "trial-0007, which was not the choice" in found.title
    unclear = row("trial-0007", 0.085, rate, **gap(kind, 0.005, 0.001, p_holm=0.2))
    assert advice(**values, front=[unclear]) == plain


def test_a_front_point_that_skips_less_is_another_trade_off_and_no_rival():
    values = {"none": 0.07, "everything": 0.08, "random": 0.07, "chosen": 0.08}
    better = row("trial-0007", 0.085, 0.1, **gap(TO_CHOSEN, 0.005, 0.001, p_holm=0.01))
    assert advice(**values, front=[better]).verdict is USE


def test_the_words_of_using_the_choice():
    chosen, baselines = measured(0.0700, 0.1000, 0.0981, 0.0997, reach=0.0004, rate=0.53)
    chosen["test_arithmetic"] = 0.59
    assert str(advise(chosen, baselines, [chosen], VIEW, TOLERANCE)) == (
        "Use trial-0001: skip 53% of the passes at a cost of 0.3% of HR@10. The cost is 0.3% (95%: −0.1% to "
        "0.7%), with 41% less computing for learning; skipping at random would cost 1.9%. Adapting on every sample "
        "adds 42.9% (95%: 42.3% to 43.4%) of HR@10."
    )


def test_a_gain_is_promised_only_if_it_is_clear():
    values = {"none": 0.07, "everything": 0.1, "random": 0.09, "chosen": 0.1002}
    unclear, clear = advice(**values, reach=0.0005), advice(**values, reach=0.0001)
    assert unclear.title == "Use trial-0001: skip 50% of the passes at no cost in HR@10."
    assert "HR@10 is 0.2% higher (95%: −0.3% to 0.7%)" in unclear.reasons[0]
    assert clear.title == "Use trial-0001: skip 50% of the passes and gain 0.2% of HR@10."


def test_a_front_point_that_costs_more_to_serve_is_no_rival():
    """Where the cost is measured. The column "on test" says the same of it."""
    values = {"none": 0.07, "everything": 0.08, "random": 0.07, "chosen": 0.08}
    for cost, verdict in ((0.9, USE), (0.6, OPEN), (None, OPEN)):
        chosen, baselines = measured(**values)
        chosen["test_cost"] = 0.7
        better = row("trial-0007", 0.085, 0.6, test_cost=cost, **gap(TO_CHOSEN, 0.005, 0.001, p_holm=0.01))
        assert advise(chosen, baselines, [chosen, better], VIEW, TOLERANCE).verdict is verdict
        beaten = judge(chosen, [chosen, better], VIEW, "trial-0001").judgement is Judgement.BY_POINT
        assert beaten is (verdict is OPEN)


def test_shares_leave_out_the_samples_with_nothing_to_learn():
    chosen, baselines = measured(0.0700, 0.1000, 0.0981, 0.0997, rate=0.7)
    for one in (chosen, baselines["random"]):
        one["test_filtered_by_seen"] = 0.4
    assert advise(chosen, baselines, [chosen], VIEW, TOLERANCE).title.startswith(
        "Use trial-0001: skip 50% of the passes"
    )


def test_the_tolerance_is_that_of_the_search():
    values = {"none": 0.07, "everything": 0.08, "random": 0.075, "chosen": 0.078}
    assert [advice(**values, tolerance=share).verdict for share in (0.005, 0.03)] == [ALL, USE]


def test_a_cost_of_exactly_the_tolerance_is_tolerated():
    values = {"none": 0.25, "everything": 0.5, "chosen": 0.4375}  # an eighth less, exact in binary
    assert advice(**values, random=0.25, tolerance=0.125).verdict is USE
    assert advice(**values, random=0.25, tolerance=0.1249).verdict is OPEN
    assert advice(**values, random=0.4375, tolerance=0.125).verdict is RANDOM
    assert negligible(Difference(0.0, -0.0625, 0.0625), 0.5, 0.125)
    assert not negligible(Difference(0.0, -0.0625, 0.0626), 0.5, 0.125)
