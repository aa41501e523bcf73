"""The choice of a point of the front, from validation."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from formula import SAMPLES
from measured_formula import HALF, at, spec_of, trials_with

from etarec.config import AdaptConfig
from search.records.trial import Anchor
from search.records.trials_table import METRICS
from search.selection.documents import chosen_document
from search.selection.front import without_baselines
from search.selection.paired import Outcomes, users_text


def test_the_choice_follows_the_objective_that_was_asked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, search={"objectives": ["ndcg_at_50", "filter_rate"]})
    good = HALF | {"filter_rate": 0.2, "hr_at_10": 0.1}
    bad = dict.fromkeys(METRICS, 0.4) | {"filter_rate": 0.6, "hr_at_10": 0.9}
    trials = trials_with(good, bad)
    selection = without_baselines(spec, trials)
    assert len(selection.front) == 2 and selection.chosen is not None and selection.choice is not None
    assert selection.chosen.name == "trial-0000" and "Its own NDCG@50 is 0.5000" in selection.choice.reason


def test_an_interrupted_search_compares_with_the_anchor_all(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    points = [(0.500, 0.2), (0.499, 0.6)]
    trials = trials_with(*(at(q, rate) for q, rate in points))
    everything = Anchor("all", asdict(AdaptConfig(gate="open")), at(0.502, 0.0))
    alone, beside = without_baselines(spec, trials), without_baselines(spec, trials, [everything])
    assert alone.choice is not None and alone.choice.index == 1
    assert beside.choice is not None and beside.choice.index == 0
    assert "of 0.5020, adapting on every sample)" in beside.choice.reason


@pytest.mark.parametrize(
    ("least", "chosen", "said"),
    [
        (0.0, "trial-0000", "It skips 20.0%"),
        (
            0.5,
            "trial-0001",
            "2 of the front's 3 points have the filter rate of at least 50% that search.choose asks for. It skips 60.0",
        ),
        (
            0.95,
            "trial-0000",
            "None of the front's 3 points have the filter rate of at least 95% that search.choose asks for. It skips",
        ),
    ],
)
def test_the_choice_skips_at_least_as_much_as_asked_for(tmp_path: Path, least: float, chosen: str, said: str) -> None:
    spec = spec_of(tmp_path, search={"choose": {"min_filter_rate": least}})
    points = [(0.50, 0.2), (0.45, 0.6), (0.30, 0.9)]
    trials = trials_with(*(at(q, rate) for q, rate in points))
    selection = without_baselines(spec, trials)
    assert selection.chosen is not None and selection.chosen.name == chosen
    document = chosen_document(spec, selection)
    assert document["why"].startswith(said)
    assert ("a filter rate of at least" in document["rule"]) == (least > 0)


def test_the_reason_counts_the_passes_that_could_have_been_computed(tmp_path: Path) -> None:
    metrics = HALF | {"filter_rate": 0.6, "filtered_by_seen": 0.2}
    choice = without_baselines(spec_of(tmp_path), trials_with(metrics)).choice
    assert choice is not None and choice.reason.startswith("It skips 50.0% of the passes")


def test_a_point_clearly_below_adapting_on_everything_is_not_chosen(tmp_path: Path) -> None:
    """The second point skips more and is within the tolerance, but its loss is certain."""
    spec = spec_of(tmp_path, search={"choose": {"tolerance": 0.1}})
    ranks = np.zeros(SAMPLES, int)
    ranks[::2] = 99
    worse = ranks.copy()
    worse[1::40] = 99
    everything = Outcomes.of(ranks, np.ones(SAMPLES, bool)).text()
    fewer_hits = Outcomes.of(worse, np.ones(SAMPLES, bool)).text()
    first, second = trials_with(at(0.5, 0.2), at(0.475, 0.6))
    trials = [replace(first, outcomes=everything), replace(second, outcomes=fewer_hits)]
    known = [Anchor("all", asdict(AdaptConfig(gate="open")), at(0.5, 0.0), everything)]
    users = users_text(np.repeat(np.arange(SAMPLES // 20), 20))
    assert without_baselines(spec, trials, known).chosen.name == "trial-0001"  # type: ignore[union-attr]
    assert without_baselines(spec, trials, known, users).chosen.name == "trial-0000"  # type: ignore[union-attr]


def test_constraints_bound_the_front_and_the_choice(tmp_path: Path) -> None:
    points = [(0.50, 0.2), (0.47, 0.5), (0.45, 0.6), (0.30, 0.9)]
    trials = trials_with(*(at(q, rate) for q, rate in points))
    known = [Anchor("all", asdict(AdaptConfig(gate="open")), at(0.50, 0.0))]
    search = {"constraints": {"hr_at_10": ">= 0.9 * all"}, "choose": {"rule": "constraint"}}
    spec = spec_of(tmp_path, search=search)
    selection = without_baselines(spec, trials, known)
    assert [point.name for point in selection.front] == ["trial-0000", "trial-0001", "trial-0002"]
    document = chosen_document(spec, selection)
    assert document["trial_id"] == "trial-0002"
    assert document["rule"] == (
        "the point that skips most, of those with HR@10 at least 0.9 times that of the anchor all on validation"
    )
    assert document["why"].startswith("It skips 60.0% of the passes, the most of the 3 points with HR@10 at least 0.9")
    strict = spec_of(tmp_path, search={**search, "constraints": {"hr_at_10": ">= 0.6"}})
    selection = without_baselines(strict, trials, known)
    assert len(selection.front) == 4
    assert selection.choice is not None
    assert selection.choice.reason.startswith("No trial meets the constraint of HR@10 at least 0.6. It skips 20.0%")


@pytest.mark.parametrize(("rule", "chosen"), [("knee", "trial-0001"), ("weights", "trial-0002")])
def test_other_rules_choose_another_point(tmp_path: Path, rule: str, chosen: str) -> None:
    points = [(0.50, 0.1), (0.48, 0.5), (0.30, 0.9)]
    trials = trials_with(*(at(q, rate) for q, rate in points))
    spec = spec_of(tmp_path, search={"choose": {"rule": rule, "weights": [0.1, 1.0]}})
    selection = without_baselines(spec, trials)
    assert selection.chosen is not None and selection.chosen.name == chosen
    words = {"knee": "furthest above the line between its two ends", "weights": "the highest 0.1 x HR@10 relative"}
    assert words[rule] in chosen_document(spec, selection)["rule"]
