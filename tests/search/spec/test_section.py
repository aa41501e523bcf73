"""The section `search`: objectives, and what is written of it."""

from pathlib import Path

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
