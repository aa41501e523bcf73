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
