"""From finished trials to the selection: the front, and its measurement on test."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import SAMPLES
from measured_formula import (
    HALF,
    N_ITEMS,
    Measured,
    anchors_of,
    at,
    finished,
    selected,
    spec_of,
    trials_with,
)

from search.records.states import State
from search.records.trial import Trial
from search.selection.documents import chosen_document, tables
from search.selection.front import front_of, remeasure, select, without_baselines
from search.selection.modelled import modelled
from search.selection.paired import Outcomes, users_text
from search.selection.pareto import hypervolume
from search.spec import Spec, trial_config


def test_the_front_goes_by_filter_rate_and_holds_what_no_trial_beats(spec: Spec) -> None:
    trials = finished(spec, Measured("valid"))
    front, volume = front_of(spec, trials)
    values = {t.trial_id: (t.metrics["hr_at_10"], t.metrics["filter_rate"]) for t in trials}
    beaten = {
        name
        for name, mine in values.items()
        if any(other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in values.values())
    }
    assert 1 < len(front) < len(trials) and {point.name for point in front} == values.keys() - beaten
    rates = [point.valid["filter_rate"] for point in front]
    assert rates == sorted(rates)
    assert volume == pytest.approx(hypervolume(list(values.values())))
    assert all(point.config == trial_config(spec, trials[int(point.name[-4:])].parameters) for point in front)


def test_the_front_follows_the_objective_that_was_asked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, search={"objectives": ["filter_rate", "ndcg_at_50"]})
    better = HALF | {"hr_at_10": 0.1}
    worse = HALF | {"ndcg_at_50": 0.4}
    front, _ = front_of(spec, trials_with(worse, better))
    assert [point.name for point in front] == ["trial-0001"]


def test_the_cost_counts_from_that_of_adapting_on_everything(tmp_path: Path) -> None:
    """A trial of HR@10 0.5 at a cost of 0.75 saves a quarter of the cost; one that costs more than 1 adds nothing."""
    spec = spec_of(tmp_path, search={"objectives": ["hr_at_10", "cost"]})
    metrics = [HALF | {"cost": 0.75}, HALF | {"hr_at_10": 0.9, "cost": 1.1}]
    _, volume = front_of(spec, trials_with(*metrics))
    assert volume == pytest.approx(0.5 * (1 - 0.75))


def test_points_of_the_front_keep_their_modelled_quality(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, search={"front": "modelled"})
    trials = finished(spec, Measured("valid"))
    believed = {t.trial_id: quality for t, quality in zip(trials, modelled(spec, trials), strict=True)}
    front, _ = front_of(spec, trials)
    assert [point.modelled for point in front] == [believed[point.name] for point in front]
    assert all(point.modelled.keys() == {"hr_at_10"} for point in front)


def test_a_measurement_that_is_lost_is_an_error(spec: Spec) -> None:
    on_valid, on_test = Measured("valid"), Measured("test")
    trials = finished(spec, on_valid)
    with pytest.raises(ValueError, match="zip"):
        select(spec, trials, N_ITEMS, lambda jobs: [*on_valid(jobs)][:-1])
    with pytest.raises(ValueError, match="zip"):
        remeasure(spec, select(spec, trials, N_ITEMS, on_valid), lambda jobs: [*on_test(jobs)][:-1])


def test_where_nothing_is_to_be_measured_nobody_is_asked(spec: Spec, tmp_path: Path) -> None:
    def refuses(jobs: object) -> list[None]:
        raise AssertionError("asked to measure nothing")

    known = anchors_of(spec, Measured("valid"))
    alone = spec_of(tmp_path, baselines=["all", "none"])
    assert [point.name for point in select(alone, [], N_ITEMS, refuses, known).baselines] == ["all", "none"]
    nothing = replace(select(spec, [], N_ITEMS, Measured("valid")), baselines=[])
    assert remeasure(spec, nothing, refuses) == nothing


def test_each_point_is_measured_once_on_test(spec: Spec) -> None:
    selection, _, on_test = selected(spec)
    points = [*selection.front, *selection.baselines]
    assert len(on_test.jobs) == len(points) and all(point.test is not None for point in points)
    assert {repr(job.config) for job in on_test.jobs} == {repr(point.config) for point in points}


def test_test_results_change_neither_front_nor_choice(spec: Spec) -> None:
    on_valid = Measured("valid")
    before = select(spec, finished(spec, on_valid), N_ITEMS, on_valid)
    after = remeasure(spec, before, Measured("test", seen=0.9))
    assert [point.name for point in after.front] == [point.name for point in before.front]
    assert (after.choice, after.hypervolume) == (before.choice, before.hypervolume)
    assert [point.valid for point in after.baselines] == [point.valid for point in before.baselines]


def test_without_a_finished_trial_there_are_baselines_only(spec: Spec) -> None:
    selection = select(spec, [], N_ITEMS, Measured("valid"))
    assert (selection.front, selection.choice, selection.chosen, selection.hypervolume) == ([], None, None, 0)
    assert [point.name for point in selection.baselines] == ["none", "all", "naive", "published"]
    front, baselines = tables(spec, remeasure(spec, selection, Measured("test")))
    assert len(front) == 0 and len(baselines) == 4 and "on_test_front" in front
    document = chosen_document(spec, selection)
    assert document["trial_id"] is None
    for name, fields in document["baselines"].items():  # as they can be served
        config = next(point.config for point in selection.baselines if point.name == name)
        assert replace(spec.adapt, **fields) == config
    assert document["baselines"].keys() == {"none", "all"}


def test_only_the_baselines_that_were_asked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, baselines=["published"])
    selection, on_valid, _ = selected(spec)
    assert [point.name for point in selection.baselines] == ["published"] and len(on_valid.jobs) == 1
    _, baselines = tables(spec, selection)
    assert baselines.test_delta_hr_at_10.isna().all() and baselines.test_vs_chosen_hr_at_10.notna().all()


def test_what_is_not_finite_is_left_out_or_left_empty(spec: Spec) -> None:
    on_valid = Measured("valid", nan=("open", "random"))
    selection = select(spec, finished(spec, on_valid), N_ITEMS, on_valid)
    assert [point.name for point in selection.baselines] == ["none", "naive", "published"]
    assert selection.choice is not None and "the front's best" in selection.choice.reason
    complete = select(spec, finished(spec, Measured("valid")), N_ITEMS, Measured("valid"))
    front, baselines = tables(spec, remeasure(spec, complete, Measured("test", nan=("eta",))))
    assert front.test_hr_at_10.isna().all() and front.on_test_front.isna().all()
    rows = baselines.set_index("trial_id").test_hr_at_10
    assert math.isnan(rows["published"]) and rows["all"] == pytest.approx(0.45)
    assert "random" not in rows  # nothing on test to match it to


def test_a_search_that_was_cut_off_measures_nothing(spec: Spec) -> None:
    selection = without_baselines(spec, finished(spec, Measured("valid")))
    assert selection.chosen is not None and selection.baselines == []
    front, baselines = tables(spec, selection)
    assert len(front) == len(selection.front) and len(baselines) == 0
    assert front.filter(like="test_").drop(columns="on_test_front").isna().all(axis=None)
    assert front.valid_hr_at_10.notna().all() and front.on_test_front.isna().all()


def test_one_of_each_group_is_measured_on_test_and_the_chosen_one_for_its_own(tmp_path: Path) -> None:
    """Three points of one quality, and one clearly below them."""
    spec = spec_of(tmp_path, baselines=["none", "all"])
    users = np.repeat(np.arange(SAMPLES // 20), 20)
    difficulty = np.random.default_rng(0).random(SAMPLES)

    def outcomes(hits: float) -> str:
        return Outcomes.of(np.where(difficulty < hits, 0, 99), np.ones(SAMPLES, bool)).text()

    points = [(0.5003, 0.20), (0.5002, 0.25), (0.5001, 0.30), (0.30, 0.60)]
    trials = [
        Trial(
            number,
            {"top_k": 50, "entropy_quantile": 1 - rate, "cosine_threshold": 0.3},
            State.FINISHED,
            at(quality, rate),
            outcomes=outcomes(quality),
        )
        for number, (quality, rate) in enumerate(points)
    ]
    on_test = Measured("test")
    for retest, groups in (("front", ["trial-0002"] * 3 + ["trial-0003"]), ("all", [""] * 4)):
        its = replace(spec, search=replace(spec.search, retest=retest))
        selection = select(its, trials, N_ITEMS, Measured("valid"), users=users_text(users))
        assert selection.chosen is not None and selection.chosen.name == "trial-0002"
        assert [point.group for point in selection.front] == groups
        measured = remeasure(its, selection, on_test)
        kept = [point.name for point in measured.front if point.test is not None]
        assert kept == list(dict.fromkeys(groups)) if any(groups) else len(kept) == 4
        front, baselines = tables(its, measured)
        assert front["group"].tolist() == groups and len(front) == 4 and len(baselines) == 2
