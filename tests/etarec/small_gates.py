"""Gates on made-up scores, for the tests of the gate."""

import torch
from torch import Tensor

from etarec import scoring
from etarec.config import AdaptConfig
from etarec.gate import Batch, Decision, Gate


def judge(judging: Gate, scores: Tensor, seen: list[bool] | None = None) -> Decision:
    """The gate on given scores [B, V]: the items' vectors are the axes."""
    axes = torch.eye(scores.shape[1], dtype=scores.dtype)
    given_seen = torch.zeros(len(scores), dtype=torch.bool) if seen is None else torch.tensor(seen)
    scan = scoring.scan(scores, axes, None, judging.scores_needed(scores.shape[1]))
    return judging.judge(Batch(scores, axes, scan.top_scores, scan.top_items, None, given_seen))


def log_of(*rows: list[float]) -> Tensor:
    """Scores with these softmaxes."""
    return torch.tensor(rows, dtype=torch.float64).log()


def eta(seed: int = 0, **fields: object) -> Gate:
    return Gate(AdaptConfig(**{"gate": "eta", "entropy_quantile": 1.0, "cosine_threshold": 1.0, **fields}), seed)


def random_scores(B: int, V: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows of different sharpness, some of them much alike."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(B, V, generator=generator, dtype=torch.float64)
    scores += 2 * torch.randn(3, V, generator=generator, dtype=torch.float64)[torch.arange(B) % 3]
    return (scores * (0.3 + 2 * torch.rand(B, 1, generator=generator, dtype=torch.float64))).to(dtype)
