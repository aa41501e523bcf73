"""The objectives beside the quality and the skipped passes are named, with the choice's values in them."""

from compared_rows import VIEW, row

from search.selection.other_objectives import left_out, sentence
from search.selection.view import View

CHOSEN = row("trial-0001", 0.08, 0.5, test_cost=0.634, test_ndcg_at_10=0.0412, valid_cost=0.5)
BASELINES = {"all": row("all", 0.08, 0.0, test_cost=1.0, test_ndcg_at_10=0.042)}


def test_a_search_by_one_quality_metric_and_the_filter_rate_leaves_nothing_out() -> None:
    assert left_out(("hr_at_10", "filter_rate"), VIEW) == []
    assert sentence(("hr_at_10", "filter_rate"), CHOSEN, BASELINES, VIEW) == ""
    assert sentence(("hr_at_10", "cost"), None, BASELINES, VIEW) == ""


def test_the_choice_is_compared_with_adapting_on_every_sample() -> None:
    assert sentence(("hr_at_10", "ndcg_at_10", "cost"), CHOSEN, BASELINES, VIEW) == (
        "This weighs HR@10 against skipped passes and leaves out NDCG@10 and cost: trial-0001 has NDCG@10 0.0412 "
        "(adapting on every sample 0.0420) and costs 63% of what adapting on every sample costs to serve on test."
    )


def test_what_was_not_measured_is_named_only() -> None:
    view = View("valid", "hr_at_10")
    said = sentence(("hr_at_10", "ndcg_at_10", "filter_rate"), CHOSEN, {}, view)
    assert said == "This weighs HR@10 against skipped passes and leaves out NDCG@10."
    assert sentence(("hr_at_10", "cost"), CHOSEN, {}, view).endswith(
        "costs 50% of what adapting on every sample costs to serve on validation."
    )
