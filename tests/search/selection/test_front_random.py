"""Random skipping that is matched to the front's points, on each split."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measured_formula import N_ITEMS, SEEN, SPACE, Measured, finished, selected, spec_of

from search.selection.front import select
from search.spec import Spec, trial_seed


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


@pytest.mark.parametrize("without", [{"search": {"random_points": 0}}, {"baselines": ["all", "none"]}])
def test_gates_at_random_can_be_switched_off(tmp_path: Path, without: dict[str, Any]) -> None:
    selection, _, _ = selected(spec_of(tmp_path, **without))
    assert not [point.name for point in selection.baselines if point.name.startswith("random ")]
