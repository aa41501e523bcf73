"""HR@k and NDCG@k from ranks, with one relevant item (the target) per sample. Ranks count from 0."""

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (10, 50)
QUALITY_METRICS = tuple(f"{name}_at_{k}" for k in CUTOFFS for name in ("hr", "ndcg"))
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
