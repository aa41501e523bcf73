"""From finished trials to the selection: front and choice from validation, random skipping matched on each split."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formula import SAMPLES
from measured_formula import N_ITEMS, SEEN, SPACE, Measured, finished, selected, spec_of

from etarec.config import AdaptConfig
from search.records.states import State
from search.records.trial import Anchor, Trial
from search.records.trials_table import METRICS
from search.selection import anchors
from search.selection.documents import chosen_document, tables
from search.selection.front import areas, front_of, remeasure, select, without_baselines
from search.selection.modelled import modelled
from search.selection.paired import Outcomes, users_text
from search.selection.pareto import hypervolume
from search.spec import Spec, trial_config, trial_seed
from search.subject import job_of

HALF = dict.fromkeys(METRICS, 0.5) | {"filtered_by_seen": 0.0}


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_of(tmp_path)


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
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    front, _ = front_of(spec, [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate((worse, better))])
    assert [point.name for point in front] == ["trial-0001"]


def test_the_cost_counts_from_that_of_adapting_on_everything(tmp_path: Path) -> None:
    """A trial of HR@10 0.5 at a cost of 0.75 saves a quarter of the cost; one that costs more than 1 adds nothing."""
    spec = spec_of(tmp_path, search={"objectives": ["hr_at_10", "cost"]})
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    metrics = [HALF | {"cost": 0.75}, HALF | {"hr_at_10": 0.9, "cost": 1.1}]
    _, volume = front_of(spec, [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate(metrics)])
    assert volume == pytest.approx(0.5 * (1 - 0.75))


def test_points_of_the_front_keep_their_modelled_quality(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, search={"front": "modelled"})
    trials = finished(spec, Measured("valid"))
    believed = {t.trial_id: quality for t, quality in zip(trials, modelled(spec, trials), strict=True)}
    front, _ = front_of(spec, trials)
    assert [point.modelled for point in front] == [believed[point.name] for point in front]
    assert all(point.modelled.keys() == {"hr_at_10"} for point in front)


def test_the_choice_follows_the_objective_that_was_asked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, search={"objectives": ["ndcg_at_50", "filter_rate"]})
    good = HALF | {"filter_rate": 0.2, "hr_at_10": 0.1}
    bad = dict.fromkeys(METRICS, 0.4) | {"filter_rate": 0.6, "hr_at_10": 0.9}
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    trials = [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate((good, bad))]
    selection = without_baselines(spec, trials)
    assert len(selection.front) == 2 and selection.chosen is not None and selection.choice is not None
    assert selection.chosen.name == "trial-0000" and "Its own NDCG@50 is 0.5000" in selection.choice.reason


def test_an_interrupted_search_compares_with_the_anchor_all(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    points = [(0.500, 0.2), (0.499, 0.6)]
    metrics = [HALF | {"hr_at_10": q, "filter_rate": rate} for q, rate in points]
    trials = [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate(metrics)]
    everything = Anchor("all", asdict(AdaptConfig(gate="open")), metrics[0] | {"hr_at_10": 0.502, "filter_rate": 0.0})
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
    metrics = [HALF | {"hr_at_10": q, "filter_rate": rate} for q, rate in points]
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    trials = [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate(metrics)]
    selection = without_baselines(spec, trials)
    assert selection.chosen is not None and selection.chosen.name == chosen
    document = chosen_document(spec, selection)
    assert document["why"].startswith(said)
    assert ("a filter rate of at least" in document["rule"]) == (least > 0)


def test_the_reason_counts_the_passes_that_could_have_been_computed(tmp_path: Path) -> None:
    metrics = HALF | {"filter_rate": 0.6, "filtered_by_seen": 0.2}
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    choice = without_baselines(spec_of(tmp_path), [Trial(0, parameters, State.FINISHED, metrics)]).choice
    assert choice is not None and choice.reason.startswith("It skips 50.0% of the passes")


def test_selection_sees_validation_and_chooses_before_it_matches_the_gate_at_random(spec: Spec) -> None:
    on_valid = Measured("valid")
    chosen_from = select(spec, finished(spec, on_valid), N_ITEMS, on_valid)
    assert [job.config.gate for job in on_valid.jobs] == ["eta", "open", "eta", "eta"] + ["random"] * 4
    assert [point.name for point in chosen_from.baselines][:5] == ["none", "all", "naive", "published", "random"]
    assert all(job.seed == trial_seed(spec.search.seed, job.config) for job in on_valid.jobs)
    assert chosen_from.chosen is not None and "adapting on every sample" in chosen_from.choice.reason  # type: ignore[union-attr]
    assert all(point.test is None for point in [*chosen_from.front, *chosen_from.baselines])


@pytest.mark.parametrize("seen", [{"valid": 0.0, "test": 0.0}, SEEN])
def test_the_gate_at_random_filters_as_much_as_the_chosen_point_on_each_split(
    spec: Spec, seen: dict[str, float]
) -> None:
    selection, on_valid, on_test = selected(spec, seen)
    chosen, random = selection.chosen, next(point for point in selection.baselines if point.name == "random")
    assert chosen is not None and chosen.test is not None and random.test is not None and random.name == "random"
    assert random.valid["filter_rate"] == pytest.approx(chosen.valid["filter_rate"], abs=1e-3)
    assert random.test.metrics()["filter_rate"] == pytest.approx(chosen.test.metrics()["filter_rate"], abs=1e-3)
    assert random.valid["filtered_by_seen"] == seen["valid"]
    first_random = next(job for job in on_test.jobs if job.config.gate == "random")
    rates = [on_valid.jobs[4].config.random_rate, first_random.config.random_rate]
    assert rates == pytest.approx([1 - chosen.config.entropy_quantile] * 2, abs=1e-3)


@pytest.mark.parametrize("seen", [{"valid": 0.0, "test": 0.0}, SEEN])
def test_each_front_point_has_random_skipping_of_its_own_rate_on_each_split(spec: Spec, seen: dict[str, float]) -> None:
    selection, _, on_test = selected(spec, seen)
    along = {point.name: point for point in selection.baselines if point.name.startswith("random ")}
    others = [point for point in selection.front if point is not selection.chosen]
    asked = {f"random {1 - point.config.entropy_quantile:.0%}": point for point in others}
    assert list(along) == list(asked) and len(along) > 2
    for name, point in along.items():
        mine, partner = point.test and point.test.metrics(), asked[name].test
        assert mine and partner and mine["filter_rate"] == pytest.approx(partner.metrics()["filter_rate"], abs=1e-3)
        assert point.valid["filter_rate"] == pytest.approx(asked[name].valid["filter_rate"], abs=0.006)
    gates = [job.config.gate for job in on_test.jobs]
    assert gates[-len(along) - 1 :] == ["random"] * (len(along) + 1) and "random" not in gates[: -len(along) - 1]


def test_gates_at_random_adapt_as_the_chosen_point_does(spec: Spec, tmp_path: Path) -> None:
    on_valid = Measured("valid")
    trials = [
        replace(trial, parameters={**trial.parameters, "learning_rate": 1e-3 * (trial.number + 1)})
        for trial in finished(spec, on_valid)
    ]
    searched = spec_of(tmp_path, space={**SPACE, "learning_rate": {"low": 1e-4, "high": 1.0}})
    selection = select(searched, trials, N_ITEMS, on_valid)
    rates = {p.config.learning_rate for p in selection.baselines if p.name.startswith("random")}
    assert selection.chosen is not None and rates == {selection.chosen.config.learning_rate}
    assert len({point.config.learning_rate for point in selection.front}) > 1


def test_other_baselines_adapt_as_the_front_s_best_point_does(spec: Spec, tmp_path: Path) -> None:
    on_valid = Measured("valid")
    trials = [
        replace(trial, parameters={**trial.parameters, "learning_rate": 1e-3 * (trial.number + 1)})
        for trial in finished(spec, on_valid)
    ]
    space = {**SPACE, "learning_rate": {"low": 1e-4, "high": 1.0}}
    searched = spec_of(tmp_path, space=space, search={"choose": {"tolerance": 0.3}})
    selection = select(searched, trials, N_ITEMS, on_valid)
    best = max(selection.front, key=lambda point: point.valid["hr_at_10"])
    rates = {p.name: p.config.learning_rate for p in selection.baselines if not p.name.startswith("random")}
    assert rates == dict.fromkeys(("none", "all", "naive", "published"), best.config.learning_rate)
    assert best is not selection.chosen


def test_a_measurement_that_is_lost_is_an_error(spec: Spec) -> None:
    on_valid, on_test = Measured("valid"), Measured("test")
    trials = finished(spec, on_valid)
    with pytest.raises(ValueError, match="zip"):
        select(spec, trials, N_ITEMS, lambda jobs: [*on_valid(jobs)][:-1])
    with pytest.raises(ValueError, match="zip"):
        remeasure(spec, select(spec, trials, N_ITEMS, on_valid), N_ITEMS, lambda jobs: [*on_test(jobs)][:-1])


def test_where_nothing_is_to_be_measured_nobody_is_asked(spec: Spec, tmp_path: Path) -> None:
    def refuses(jobs: object) -> list[None]:
        raise AssertionError("asked to measure nothing")

    known = anchors_of(spec, Measured("valid"))
    alone = spec_of(tmp_path, baselines=["all", "none"])
    assert [point.name for point in select(alone, [], N_ITEMS, refuses, known).baselines] == ["all", "none"]
    nothing = replace(select(spec, [], N_ITEMS, Measured("valid")), baselines=[])
    assert remeasure(spec, nothing, N_ITEMS, refuses) == nothing


@pytest.mark.parametrize("without", [{"search": {"random_points": 0}}, {"baselines": ["all", "none"]}])
def test_gates_at_random_can_be_switched_off(tmp_path: Path, without: dict[str, Any]) -> None:
    selection, _, _ = selected(spec_of(tmp_path, **without))
    assert not [point.name for point in selection.baselines if point.name.startswith("random ")]


def test_each_point_is_measured_once_on_test(spec: Spec) -> None:
    selection, _, on_test = selected(spec)
    points = [*selection.front, *selection.baselines]
    assert len(on_test.jobs) == len(points) and all(point.test is not None for point in points)
    assert {repr(job.config) for job in on_test.jobs} == {repr(point.config) for point in points}


def test_test_results_change_neither_front_nor_choice(spec: Spec) -> None:
    on_valid = Measured("valid")
    before = select(spec, finished(spec, on_valid), N_ITEMS, on_valid)
    after = remeasure(spec, before, N_ITEMS, Measured("test", seen=0.9))
    assert [point.name for point in after.front] == [point.name for point in before.front]
    assert (after.choice, after.hypervolume) == (before.choice, before.hypervolume)
    assert [point.valid for point in after.baselines] == [point.valid for point in before.baselines]


def test_without_a_finished_trial_there_are_baselines_only(spec: Spec) -> None:
    selection = select(spec, [], N_ITEMS, Measured("valid"))
    assert (selection.front, selection.choice, selection.chosen, selection.hypervolume) == ([], None, None, 0)
    assert [point.name for point in selection.baselines] == ["none", "all", "naive", "published"]
    front, baselines = tables(spec, remeasure(spec, selection, N_ITEMS, Measured("test")))
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
    front, baselines = tables(spec, remeasure(spec, complete, N_ITEMS, Measured("test", nan=("eta",))))
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


def anchors_of(spec: Spec, measured: Measured, **changed: dict[str, float]) -> list[Anchor]:
    """The anchors as the formula measures them, some with other metrics."""
    found = []
    for name, config in anchors.configs(spec, N_ITEMS).items():
        one = anchors.anchor(name, config, measured.measure(job_of(spec, config)))
        found.append(replace(one, metrics={**one.metrics, **changed.get(name, {})}))
    return found


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
    front, table = tables(spec, remeasure(spec, selection, N_ITEMS, Measured("test")))
    assert front.empty and table.test_hr_at_10.notna().all()


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
            HALF | {"hr_at_10": quality, "filter_rate": rate},
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
        measured = remeasure(its, selection, N_ITEMS, on_test)
        kept = [point.name for point in measured.front if point.test is not None]
        assert kept == list(dict.fromkeys(groups)) if any(groups) else len(kept) == 4
        front, baselines = tables(its, measured)
        assert front["group"].tolist() == groups and len(front) == 4 and len(baselines) == 2


def test_a_point_clearly_below_adapting_on_everything_is_not_chosen(tmp_path: Path) -> None:
    """The second point skips more and is within the tolerance, but its loss is certain."""
    spec = spec_of(tmp_path, search={"choose": {"tolerance": 0.1}})
    ranks = np.zeros(SAMPLES, int)
    ranks[::2] = 99
    worse = ranks.copy()
    worse[1::40] = 99
    metrics = HALF
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    everything = Outcomes.of(ranks, np.ones(SAMPLES, bool)).text()
    trials = [
        Trial(n, parameters, State.FINISHED, metrics | {"hr_at_10": q, "filter_rate": rate}, outcomes=text)
        for n, (q, rate, text) in enumerate(
            [(0.5, 0.2, everything), (0.475, 0.6, Outcomes.of(worse, np.ones(SAMPLES, bool)).text())]
        )
    ]
    known = [
        Anchor("all", asdict(AdaptConfig(gate="open")), metrics | {"hr_at_10": 0.5, "filter_rate": 0.0}, everything)
    ]
    users = users_text(np.repeat(np.arange(SAMPLES // 20), 20))
    assert without_baselines(spec, trials, known).chosen.name == "trial-0001"  # type: ignore[union-attr]
    assert without_baselines(spec, trials, known, users).chosen.name == "trial-0000"  # type: ignore[union-attr]


def test_constraints_bound_the_front_and_the_choice(tmp_path: Path) -> None:
    points = [(0.50, 0.2), (0.47, 0.5), (0.45, 0.6), (0.30, 0.9)]
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    metrics = [HALF | {"hr_at_10": q, "filter_rate": rate} for q, rate in points]
    trials = [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate(metrics)]
    known = [Anchor("all", asdict(AdaptConfig(gate="open")), metrics[0] | {"filter_rate": 0.0})]
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
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    metrics = [HALF | {"hr_at_10": q, "filter_rate": rate} for q, rate in points]
    trials = [Trial(n, parameters, State.FINISHED, m) for n, m in enumerate(metrics)]
    spec = spec_of(tmp_path, search={"choose": {"rule": rule, "weights": [0.1, 1.0]}})
    selection = without_baselines(spec, trials)
    assert selection.chosen is not None and selection.chosen.name == chosen
    words = {"knee": "furthest above the line between its two ends", "weights": "the highest 0.1 x HR@10 relative"}
    assert words[rule] in chosen_document(spec, selection)["rule"]
