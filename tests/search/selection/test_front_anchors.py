"""A selection beside the search's anchors."""

from dataclasses import asdict, replace

import pytest
from measured_formula import (
    N_ITEMS,
    Measured,
    anchors_of,
    finished,
)

from etarec.config import AdaptConfig
from search.records.trial import Anchor
from search.records.trials_table import METRICS
from search.selection.documents import chosen_document, tables
from search.selection.front import areas, front_of, remeasure, select, without_baselines
from search.selection.pareto import hypervolume
from search.spec import Spec


def test_what_an_anchor_beats_is_not_on_the_front(spec: Spec) -> None:
    trials = finished(spec, Measured("valid"))
    alone, volume = front_of(spec, trials)
    middle = alone[len(alone) // 2].valid
    slightly = {"hr_at_10": middle["hr_at_10"] + 0.001, "filter_rate": middle["filter_rate"] + 0.001}
    known = anchors_of(spec, Measured("valid"), none=slightly)
    front, same = front_of(spec, trials, known)
    assert same == volume and alone[len(alone) // 2].name not in [point.name for point in front]
    rivals = [(anchor.metrics["hr_at_10"], anchor.metrics["filter_rate"]) for anchor in known]
    for point in alone:
        mine = (point.valid["hr_at_10"], point.valid["filter_rate"])
        beaten = any(other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in rivals)
        assert (point.name in [kept.name for kept in front]) == (not beaten)


def test_anchors_are_not_measured_again(spec: Spec) -> None:
    on_valid = Measured("valid")
    trials, known = finished(spec, on_valid), anchors_of(spec, Measured("valid"))
    selection = select(spec, trials, N_ITEMS, on_valid, known)
    configs = [AdaptConfig(**anchor.adapt) for anchor in known]
    assert not [job for job in on_valid.jobs if job.config in configs]
    rows = {point.name: point.valid for point in selection.baselines}
    assert {"none", "all", "naive", "published", "random"} <= rows.keys()
    assert all(rows[anchor.name] == anchor.metrics for anchor in known if anchor.name in ("all", "none"))
    ranked = {anchor.name: anchor.outcomes for anchor in known}
    kept = {point.name: point.outcomes for point in selection.baselines if point.name in ("all", "none")}
    assert kept == {name: ranked[name] for name in kept} and all(kept.values())
    (along,) = [point for point in selection.baselines if point.name.startswith("random ")][:1]
    same = Anchor("random 10%", asdict(along.config), dict.fromkeys(METRICS, 0.125))
    again = select(spec, trials, N_ITEMS, on_valid, [*known, same])
    assert next(point for point in again.baselines if point.name == along.name).valid == same.metrics


def test_an_anchor_that_failed_is_tried_again_as_a_baseline(spec: Spec) -> None:
    on_valid = Measured("valid")
    known = [replace(a, metrics={}) if a.name == "all" else a for a in anchors_of(spec, Measured("valid"))]
    assert without_baselines(spec, finished(spec, on_valid), known).area_share is None
    selection = select(spec, finished(spec, on_valid), N_ITEMS, on_valid, known)
    assert "all" in [point.name for point in selection.baselines] and selection.area_share is not None


def test_the_area_counts_from_no_adaptation(spec: Spec) -> None:
    trials, known = finished(spec, Measured("valid")), anchors_of(spec, Measured("valid"))
    selection = without_baselines(spec, trials, known)
    points = [(trial.metrics["hr_at_10"], trial.metrics["filter_rate"]) for trial in trials]
    dice = [(anchor.metrics["hr_at_10"], anchor.metrics["filter_rate"]) for anchor in known]
    none, everything = dice[-1][0], dice[0][0]
    assert selection.area_share == pytest.approx(hypervolume(points + dice, (none, 0)) / (everything - none))
    ahead = hypervolume(points, (none, 0)) / hypervolume(dice, (none, 0)) - 1
    assert selection.gain_over_dice == pytest.approx(ahead) and ahead != 0
    assert areas(selection) == {
        "hypervolume": selection.hypervolume,
        "area_share": selection.area_share,
        "gain_over_dice": selection.gain_over_dice,
    }
    assert selection.hypervolume == pytest.approx(hypervolume(points))


def test_if_anchors_beat_all_trials_none_is_recommended(spec: Spec) -> None:
    on_valid = Measured("valid")
    known = anchors_of(spec, Measured("valid"), none={"hr_at_10": 0.9, "filter_rate": 1.0})
    selection = select(spec, finished(spec, on_valid), N_ITEMS, on_valid, known)
    assert (selection.front, selection.choice) == ([], None)
    assert [point.name for point in selection.baselines][-5:] == [f"random {rate}%" for rate in (10, 30, 50, 70, 90)]
    document = chosen_document(spec, selection)
    assert document["trial_id"] is None and "beats every finished trial" in document["why"]
    front, table = tables(spec, remeasure(spec, selection, Measured("test")))
    assert front.empty and table.test_hr_at_10.notna().all()
