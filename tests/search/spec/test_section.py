"""The section `search`: objectives."""

from search.spec import SearchConfig, objectives_of, quality_of


def test_objectives_have_the_order_of_the_file() -> None:
    metrics = {"hr_at_10": 0.1, "ndcg_at_10": 0.05, "hr_at_50": 0.3, "ndcg_at_50": 0.08, "filter_rate": 0.6}
    for objectives, values in {
        ("filter_rate", "ndcg_at_50"): (0.6, 0.08),
        ("hr_at_50", "filter_rate"): (0.3, 0.6),
    }.items():
        search = SearchConfig(objectives=objectives)
        assert objectives_of(search, metrics) == values
        assert search.quality == quality_of(objectives) == next(name for name in objectives if "_at_" in name)
