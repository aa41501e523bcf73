"""The rivals of a trial depend on its number alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from spaces import floats, make

from search.records.records import Records
from search.records.trial import Anchor
from search.running.rivals import Rivals
from search.selection.paired import Outcomes
from search.spec import PruneConfig

TEXT = Outcomes.of(np.zeros(4, int), np.ones(4, bool)).text()


def finished(records: Records, number: int, quality: float, rate: float) -> None:
    records.started(number, {"entropy_quantile": 0.5})
    records.finished(number, {"hr_at_10": quality, "filter_rate": rate}, {}, TEXT)


def test_rivals_are_anchors_and_trials_before_the_lag_that_nothing_beats(tmp_path: Path) -> None:
    spec, records = make(entropy_quantile=floats(0.1, 1.0)), Records(tmp_path)
    records.anchored(Anchor("all", {}, {"hr_at_10": 0.5, "filter_rate": 0.0}, TEXT))
    records.anchored(Anchor("random 10%", {}, {}))  # its measurement failed
    rivals = Rivals(spec, records, concurrency=2)  # a lag of 3
    finished(records, 1, 0.3, 0.2)  # ends before number 0
    finished(records, 0, 0.4, 0.5)
    assert list(rivals.of(2)) == ["all"]
    assert list(rivals.of(3)) == ["all", "trial-0000"]
    assert list(rivals.of(4)) == ["all", "trial-0000"]  # number 1 is beaten
    finished(records, 2, 0.6, 0.1)
    assert list(rivals.of(4)) == ["all", "trial-0000"] and list(rivals.of(5)) == ["trial-0000", "trial-0002"]
    assert list(Rivals(spec, Records(tmp_path), 2).of(4)) == ["all", "trial-0000"]  # after an interruption


def test_nothing_is_sent_where_no_trial_is_ended_early(tmp_path: Path) -> None:
    spec, records = make(entropy_quantile=floats(0.1, 1.0)), Records(tmp_path)
    records.anchored(Anchor("all", {}, {"hr_at_10": 0.5, "filter_rate": 0.0}, TEXT))
    never = replace(spec, search=replace(spec.search, prune=PruneConfig(z=None)))
    assert Rivals(never, records, 1).reference(7) is None
    assert Rivals(spec, Records(tmp_path / "empty"), 1).reference(7) is None


def test_a_configuration_that_breaks_a_bound_ends_no_trial_that_may_keep_it(tmp_path: Path) -> None:
    """Nothing is left of the front but what keeps the bounds, so a trial behind another one may be on it."""
    spec, records = make(entropy_quantile=floats(0.1, 1.0)), Records(tmp_path)
    records.anchored(Anchor("all", {}, {"hr_at_10": 0.5, "filter_rate": 0.0}, TEXT))
    finished(records, 0, 0.4, 0.5)
    for constraints, rivals in {
        "hr_at_10: >= 0.9 * all": ["all", "trial-0000"],  # below this bound nothing else is above it
        "filter_rate: <= 0.4": ["all"],
        "hr_at_10: <= 0.45": ["trial-0000"],
    }.items():
        metric, text = constraints.split(": ")
        bounded = replace(spec, search=replace(spec.search, constraints={metric: text}))
        assert list(Rivals(bounded, records, 1).of(9)) == rivals


def test_trials_end_early_by_several_quality_metrics_but_not_by_the_cost(tmp_path: Path) -> None:
    spec, records = make(entropy_quantile=floats(0.1, 1.0)), Records(tmp_path)
    records.anchored(Anchor("all", {}, {"hr_at_10": 0.5, "ndcg_at_10": 0.3, "filter_rate": 0.0, "cost": 1.0}, TEXT))
    for objectives, prunes in {("hr_at_10", "ndcg_at_10", "filter_rate"): True, ("hr_at_10", "cost"): False}.items():
        searched = replace(spec, search=replace(spec.search, objectives=objectives))
        assert Rivals(searched, records, 1)._prunes is prunes
