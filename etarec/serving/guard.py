"""The guard of a served model: it compares the adapted model with the frozen one on recent feedback."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from etarec import scoring
from etarec.encode import Encoder
from etarec.metrics import hits
from etarec.models import SequenceModel
from etarec.serving.histories import Batch

Ranks = npt.NDArray[np.integer]
STANDARD_ERRORS = 3.0  # a loss must be larger than this many of its own standard errors, else it is chance


@dataclass(frozen=True)
class GuardConfig:
    """When an adapted model goes back to its checkpoint.

    tolerance: share of the frozen model's hits that the adapted one may lack; window: number of the newest
    observations that count; k: an observation is a hit if its item is among the first k.
    """

    tolerance: float = 0.05
    window: int = 5000
    k: int = 10


@dataclass
class Guard:
    """The hits of both models on the newest observations."""

    config: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        self.adapted: deque[bool] = deque(maxlen=self.config.window)
        self.frozen: deque[bool] = deque(maxlen=self.config.window)

    def record(self, adapted: Ranks, frozen: Ranks) -> None:
        """Ranks int[n] of the same observations by both models."""
        self.adapted.extend((hits(adapted, self.config.k) > 0).tolist())
        self.frozen.extend((hits(frozen, self.config.k) > 0).tolist())

    def verdict(self) -> str:
        """Why the model must go back to its checkpoint, or an empty text."""
        adapted, frozen = np.array(self.adapted, bool), np.array(self.frozen, bool)
        if not falls_short(adapted, frozen, self.config.tolerance):
            return ""
        return (
            f"HR@{self.config.k} on the last {len(adapted):,} observations was {adapted.mean():.4f}, and "
            f"{frozen.mean():.4f} without adaptation"
        )

    def forget(self) -> None:
        self.adapted.clear()
        self.frozen.clear()


@torch.no_grad()
def ranks_of(model: SequenceModel, batch: Batch, device: torch.device) -> npt.NDArray[np.int64]:
    """Ranks of a batch's targets by a model that does not adapt: int[B]."""
    encoder = Encoder(batch.data, device)
    starts, ends = encoder.ranges(batch.stream.users, batch.stream.positions)
    targets = encoder.items[torch.from_numpy(ends).to(device)] - 1
    ranks = scoring.scan(encoder.hidden(model, starts, ends), model.item_vectors, targets, 0).ranks
    assert ranks is not None
    return ranks.cpu().numpy()


def falls_short(adapted: npt.NDArray[np.bool_], frozen: npt.NDArray[np.bool_], tolerance: float) -> bool:
    """Whether the adapted model lacks more than a share `tolerance` of the frozen model's hits, and not by chance.

    The difference of paired hits has a standard error of sqrt(n), with n the observations that one model alone hit.
    adapted, frozen: bool[n], hits on the same observations.
    """
    lacking = int(frozen.sum()) - int(adapted.sum())
    error = float(np.sqrt((adapted != frozen).sum()))
    return lacking > tolerance * int(frozen.sum()) and lacking > STANDARD_ERRORS * error
