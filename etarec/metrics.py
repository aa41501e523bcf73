"""Ranks -> HR and NDCG with one relevant item per sample."""

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (10, 50)
QUALITY_METRICS = tuple(f"{name}_at_{k}" for k in CUTOFFS for name in ("hr", "ndcg"))
SECONDS = ("seconds", "forward_seconds", "gate_seconds", "adapt_seconds")


def hits(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 where the target's rank (from 0) is below k, else 0."""
    return (ranks < k).astype(np.float64)


def gains(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 / log2(rank + 2) where the rank (from 0) is below k, else 0: NDCG's gain with one relevant item."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def per_sample(ranks: NDArray[np.integer], metric: str) -> NDArray[np.float64]:
    """The values whose mean over samples is `metric`, one of QUALITY_METRICS."""
    name, _, k = metric.partition("_at_")
    return {"hr": hits, "ndcg": gains}[name](ranks, int(k))


def quality(ranks: NDArray[np.integer]) -> dict[str, float]:
    """Every quality metric of a stream, by name."""
    return {metric: float(per_sample(ranks, metric).mean()) for metric in QUALITY_METRICS}
