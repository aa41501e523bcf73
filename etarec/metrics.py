"""HR@k and NDCG@k from ranks, with one relevant item (the target) per sample. Ranks count from 0."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

QualityMetric = Literal["hr_at_10", "ndcg_at_10", "hr_at_50", "ndcg_at_50"]
QUALITY_METRICS: tuple[QualityMetric, ...] = get_args(QualityMetric)
MAIN_METRICS: tuple[QualityMetric, ...] = ("hr_at_10", "ndcg_at_10")  # printed and compared whatever is searched for
EARLY_STOPPING: QualityMetric = "ndcg_at_10"  # training stops when this one stops improving on validation
# Costs beside the filter rate: share of samples that took a shallow step; transitions that a backward pass learns;
# arithmetic of learning, relative to adapting on every sample.
COSTS = ("shallow_rate", "transitions_per_pass", "arithmetic")
# CPU seconds of serving, relative to adapting on every sample; measured where a search asks for it.
COST: Final = "cost"
SECONDS = ("seconds", "forward_seconds", "gate_seconds", "adapt_seconds")


def hits(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """HR@k of each sample: 1 if the target's rank is below k, else 0."""
    return (ranks < k).astype(np.float64)


def gains(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """NDCG@k of each sample: 1 / log2(rank + 2) if the target's rank is below k, else 0."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def per_sample(ranks: NDArray[np.integer], metric: str) -> NDArray[np.float64]:
    """Each sample's value of `metric`, one of QUALITY_METRICS, whose mean over samples is the metric.

    Raises KeyError for an unknown metric.
    """
    name, _, k = metric.partition("_at_")
    return {"hr": hits, "ndcg": gains}[name](ranks, int(k))


def quality(ranks: NDArray[np.integer]) -> dict[str, float]:
    """Every metric of QUALITY_METRICS, by name: the mean over all samples."""
    return {metric: float(per_sample(ranks, metric).mean()) for metric in QUALITY_METRICS}


def label(metric: str) -> str:
    """A metric's name as readers know it: hr_at_10 -> HR@10, filter_rate -> filter rate."""
    name, _, k = metric.partition("_at_")
    return f"{name.upper()}@{k}" if k else metric.replace("_", " ")


def labelled(scores: Mapping[str, float], metrics: Iterable[str] = MAIN_METRICS) -> str:
    """Scores behind their labels: HR@10 0.0949, NDCG@10 0.0456."""
    return ", ".join(f"{label(metric)} {scores[metric]:.4f}" for metric in metrics)
