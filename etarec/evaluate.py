"""Model + stream + adapter -> measurement."""

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from etarec import adapt
from etarec.adapt import Batch
from etarec.clock import Clock
from etarec.config import AdaptConfig
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.metrics import QUALITY_METRICS, quality
from etarec.models import SequenceModel

SEGMENTS = 20  # points of the curves along the stream
FROZEN_BATCH = 4096  # samples of a batch where batches mean nothing
FILTERS = ("filtered_by_seen", "filtered_by_entropy", "filtered_by_redundancy", "filtered_by_chance")
SECONDS = ("seconds", "forward_seconds", "gate_seconds", "adapt_seconds")


@dataclass(frozen=True, eq=False)
class Measurement:
    """One configuration on one stream of S samples, all arrays in stream order.

    seconds are wall seconds of this process; of its parts `forward` serves, `gate` decides, `adapt` updates.
    """

    users: npt.NDArray[np.int32]  # [S]
    ranks: npt.NDArray[np.int32]  # [S], from 0
    admitted: npt.NDArray[np.bool_]  # [S], whose backward pass was computed
    filtered: dict[str, int]  # samples by the reason for which their backward pass was skipped, see FILTERS
    seconds: dict[str, float]  # see SECONDS
    finite: bool = True  # False where adapting made a weight NaN or infinite

    def metrics(self) -> dict[str, float]:
        """Quality, filter rate and its parts as shares of the stream, and seconds, by column name.

        Quality is NaN where the model diverged.
        """
        return {
            **(quality(self.ranks) if self.finite else dict.fromkeys(QUALITY_METRICS, math.nan)),
            "filter_rate": 1 - float(self.admitted.mean()),
            **{name: count / len(self.ranks) for name, count in self.filtered.items()},
            **self.seconds,
        }

    def curve(self) -> dict[str, list[float]]:
        """HR@10 and filter rate of equal segments along the stream, and the samples served at each segment's end."""
        parts = np.array_split(np.arange(len(self.ranks)), min(SEGMENTS, len(self.ranks)))
        return {
            "samples": [float(part[-1] + 1) for part in parts],
            "hr_at_10": [float((self.ranks[part] < 10).mean()) for part in parts],
            "filter_rate": [1 - float(self.admitted[part].mean()) for part in parts],
        }


def measure(model: SequenceModel, encoder: Encoder, stream: Stream, config: AdaptConfig, seed: int) -> Measurement:
    """Serves the stream with a fresh adapter. The model is left adapted; give it fresh weights before the next one."""
    clock = Clock(encoder.device)
    begin = time.perf_counter()
    adapter = adapt.build(config, model, encoder, stream, clock, seed)
    order = _frozen_order(stream) if config.target == "none" else np.arange(len(stream))
    size = FROZEN_BATCH if config.target == "none" else config.batch_size
    served = [_serve(adapter, stream, order[start : start + size]) for start in range(0, len(order), size)]
    ranks, reasons = (torch.cat(column).cpu().numpy() for column in zip(*served, strict=True))
    back = np.argsort(order)
    seconds = {f"{part}_seconds": clock.seconds(part) for part in ("forward", "gate", "adapt")}
    return Measurement(
        users=stream.users,
        ranks=ranks[back].astype(np.int32),
        admitted=reasons[back] == ADMITTED,
        filtered={name: int((reasons == code).sum()) for code, name in enumerate(FILTERS)},
        seconds={"seconds": time.perf_counter() - begin, **seconds},
        finite=all(bool(weight.isfinite().all()) for weight in model.parameters()),
    )


ADMITTED = len(FILTERS)  # the code of an admitted sample, behind those of the reasons to filter; NOT_ASKED: no gate
NOT_ASKED = ADMITTED + 1


def _serve(adapter: adapt.Adapter, stream: Stream, index: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks and, per sample, the code of the reason it was filtered for or ADMITTED."""
    ranks, decision = adapter.serve(Batch(stream.users[index], stream.positions[index]))
    reasons = torch.full_like(ranks, NOT_ASKED, dtype=torch.int8)
    masks = (decision.by_seen, decision.by_entropy, decision.by_redundancy, decision.by_chance, decision.admitted)
    for code, mask in enumerate(masks):
        reasons[mask] = code
    return ranks, reasons


def _frozen_order(stream: Stream) -> npt.NDArray[np.int64]:
    """By user, so that neighbours share their passes; a frozen model's results do not depend on the order."""
    return np.lexsort((stream.positions, stream.users))
