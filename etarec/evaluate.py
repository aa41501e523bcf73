"""Measures one configuration: model + stream + adapter -> ranks, decisions and seconds."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from etarec import adapt
from etarec.adapt.shared_passes import SERVED_AT_ONCE, SharedPasses, by_user
from etarec.clock import Clock, Stopwatch
from etarec.config import SKIPPED, AdaptConfig, Reason
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.metrics import COSTS, QUALITY_METRICS, per_sample, quality
from etarec.models import SequenceModel

SEGMENTS = 20  # points of the curves along the stream


@dataclass(frozen=True, eq=False)
class Measurement:
    """One configuration on one stream of S samples, all arrays in stream order.

    seconds: wall seconds as a whole, and CPU (or GPU) seconds of three parts: `forward` serves, `gate` decides, `adapt`
    learns.
    """

    users: npt.NDArray[np.int32]  # [S]
    ranks: npt.NDArray[np.int32]  # [S], from 0
    reasons: npt.NDArray[np.int8]  # [S], values of Reason: backward pass computed, or why it was skipped
    seconds: dict[str, float]  # see SECONDS
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))  # see COSTS
    finite: bool = True  # False if adapting made weights whose sum is NaN or infinite

    @property
    def admitted(self) -> npt.NDArray[np.bool_]:
        """bool[S]: the samples whose backward pass was computed."""
        return self.reasons == Reason.ADMITTED

    def metrics(self) -> dict[str, float]:
        """Quality, filter rate, its parts as shares of the stream, and seconds, by name of the result column.

        Quality is NaN if the model diverged.
        """
        return {
            **(quality(self.ranks) if self.finite else dict.fromkeys(QUALITY_METRICS, math.nan)),
            "filter_rate": 1 - float(self.admitted.mean()),
            **{reason.column: float((self.reasons == reason).mean()) for reason in SKIPPED},
            **self.costs,
            **self.seconds,
        }

    def curve(self) -> dict[str, list[float]]:
        """HR@10 and filter rate of equal segments of the stream, and the samples served by the end of each segment."""
        parts = np.array_split(np.arange(len(self.ranks)), min(SEGMENTS, len(self.ranks)))
        return {
            "samples": [float(part[-1] + 1) for part in parts],
            "hr_at_10": [float(per_sample(self.ranks[part], "hr_at_10").mean()) for part in parts],
            "filter_rate": [1 - float(self.admitted[part].mean()) for part in parts],
        }


def measure(
    model: SequenceModel,
    encoder: Encoder,
    stream: Stream,
    config: AdaptConfig,
    seed: int,
    shared: SharedPasses | None = None,
) -> Measurement:
    """Serve the stream with a fresh adapter. The model is left adapted: reset its weights before the next measurement.

    shared: passes of this model and stream. They are looked up, so the results equal those of serving up to rounding,
    and the seconds do not include the passes. Without them the whole stream is served.
    """
    assert shared is None or shared.stream is stream
    clock = Clock(encoder.device)
    order = by_user(stream) if config.target == "none" and shared is None else np.arange(len(stream))
    served = Stream(stream.users[order], stream.positions[order])
    adapter = adapt.build(config, model, encoder, served, clock, seed, shared)
    stopwatch = Stopwatch()
    size = SERVED_AT_ONCE if config.target == "none" else config.batch_size
    batches = [slice(start, min(start + size, len(stream))) for start in range(0, len(stream), size)]
    served_batches = [adapter.serve(rows) for rows in batches]
    ranks = torch.cat([ranks for ranks, _ in served_batches]).cpu().numpy()
    reasons = torch.cat([decision.reasons for _, decision in served_batches]).cpu().numpy()
    back = np.argsort(order)
    seconds = {f"{part}_seconds": clock.seconds(part) for part in ("forward", "gate", "adapt")}
    return Measurement(
        users=stream.users,
        ranks=ranks[back].astype(np.int32),
        reasons=reasons[back],
        seconds={"seconds": stopwatch.seconds, **seconds},
        costs=adapter.learned.costs(model, config, len(stream)),
        finite=bool(torch.stack([weight.sum() for weight in model.parameters()]).isfinite().all()),
    )
