"""The section `search`: objectives, and what is written of it."""

from pathlib import Path

import pytest

from etarec.config import UserError
from search.spec import SearchConfig, load, objectives_of, quality_of, to_yaml


def test_objectives_have_the_order_of_the_file() -> None:
    metrics = {"hr_at_10": 0.1, "ndcg_at_10": 0.05, "hr_at_50": 0.3, "ndcg_at_50": 0.08, "filter_rate": 0.6}
    for objectives, values in {
        ("filter_rate", "ndcg_at_50"): (0.6, 0.08),
        ("hr_at_50", "filter_rate"): (0.3, 0.6),
    }.items():
        search = SearchConfig(objectives=objectives)
        assert objectives_of(search, metrics) == values
        assert search.quality == quality_of(objectives) == next(name for name in objectives if "_at_" in name)


def test_the_cost_counts_downwards() -> None:
    search = SearchConfig(objectives=("ndcg_at_10", "cost", "hr_at_10"))
    metrics = {"hr_at_10": 0.1, "ndcg_at_10": 0.05, "filter_rate": 0.6, "cost": 0.4}
    assert objectives_of(search, metrics) == (0.05, -0.4, 0.1)
    assert (search.quality, search.qualities) == ("ndcg_at_10", ("ndcg_at_10", "hr_at_10"))
    assert (search.saving, search.followed, search.measures_cost) == ("cost", False, True)
    default = SearchConfig()
    assert (default.saving, default.followed, default.measures_cost) == ("filter_rate", True, False)
    assert SearchConfig(objectives=("hr_at_10", "ndcg_at_10", "filter_rate")).followed
    assert SearchConfig(constraints={"cost": "<= 0.5"}).measures_cost


@pytest.mark.parametrize(
    "objectives",
    [
        ["hr_at_10", "ndcg_at_10"],
        ["filter_rate", "cost"],
        ["hr_at_10", "hr_at_10", "cost"],
        ["hr_at_10", "ndcg_at_10", "filter_rate", "cost"],
    ],
)
def test_objectives_need_a_quality_and_a_saving(tmp_path: Path, objectives: list[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"space: {{top_k: {{low: 2, high: 9}}}}\nsearch: {{objectives: {objectives}}}\n")
    with pytest.raises(UserError, match=r"search.objectives: given .*, expected two or three: at least one of"):
        load(file)


def test_there_is_a_weight_for_each_objective(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    objectives = "objectives: [hr_at_10, filter_rate, cost]"
    file.write_text(f"space: {{top_k: {{low: 2, high: 9}}}}\nsearch: {{{objectives}, choose: {{rule: weights}}}}\n")
    with pytest.raises(UserError, match=r"choose.weights: given 2, expected one for each of the 3 objectives"):
        load(file)


def test_constraints_and_rules_are_written_and_load_again(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "space: {top_k: {low: 2, high: 9}}\n"
        "search: {constraints: {hr_at_10: '>= 0.98 * all'}, choose: {rule: constraint, weights: [1, 0.5]}, "
        "prune: {z: null}, until: converged, max_minutes: 5}\n"
    )
    spec = load(file)
    file.write_text(to_yaml(spec))
    assert load(file) == spec and spec.search.prune.z is None and spec.search.choose.weights == (1.0, 0.5)
