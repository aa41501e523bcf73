"""HR and NDCG against values computed by hand."""

import math

import numpy as np
import pytest

from etarec.metrics import QUALITY_METRICS, gains, hits, label, labelled, per_sample, quality

RANKS = np.array([0, 1, 9, 10, 49, 50, 700], dtype=np.int32)


def test_a_hit_is_a_rank_below_the_cutoff():
    assert hits(RANKS, 10).tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert hits(RANKS, 50).tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_gains_fall_with_the_logarithm_of_the_rank():
    assert gains(RANKS, 10).tolist() == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(11), 0, 0, 0, 0])
    assert gains(RANKS, 50)[4] == pytest.approx(1 / math.log2(51)) and gains(RANKS, 50)[5] == 0


def test_quality_is_the_mean_of_every_metric_over_samples():
    found = quality(RANKS)
    assert tuple(found) == QUALITY_METRICS == ("hr_at_10", "ndcg_at_10", "hr_at_50", "ndcg_at_50")
    assert found["hr_at_10"] == pytest.approx(3 / 7) and found["hr_at_50"] == pytest.approx(5 / 7)
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(11)) / 7)
    for metric in QUALITY_METRICS:
        assert found[metric] == pytest.approx(per_sample(RANKS, metric).mean())


def test_an_unknown_metric_is_refused():
    with pytest.raises(KeyError):
        per_sample(RANKS, "mrr_at_10")


def test_labels_are_what_papers_print():
    assert [label(metric) for metric in QUALITY_METRICS] == ["HR@10", "NDCG@10", "HR@50", "NDCG@50"]
    assert labelled({"hr_at_50": 0.2, "hr_at_10": 0.08751, "ndcg_at_10": 0.042}) == "HR@10 0.0875, NDCG@10 0.0420"
    assert labelled({"hr_at_50": 0.2}, ["hr_at_50"]) == "HR@50 0.2000"
    assert label("filter_rate") == "filter rate" and label("filtered_by_entropy") == "filtered by entropy"
