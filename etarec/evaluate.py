"""Measures one configuration: model + stream + adapter -> ranks, decisions and seconds."""

import math
from collections.abc import Callable, Sequence
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
from etarec.gate import Decision
from etarec.metrics import COSTS, QUALITY_METRICS, QualityMetric, per_sample, quality
from etarec.models import SequenceModel

SEGMENTS = 20  # points of the curves along the stream
# Sees a measurement at the end of each segment: users, ranks and decisions of the samples served so far, and the number
# of all samples. An exception that it raises ends the measurement.
Watch = Callable[[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_], int], None]


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

    def curve(self, metric: QualityMetric) -> dict[str, list[float]]:
        """A quality metric and the filter rate of equal segments of the stream, by the samples served at their ends."""
        parts = np.array_split(np.arange(len(self.ranks)), min(SEGMENTS, len(self.ranks)))
        return {
            "samples": [float(part[-1] + 1) for part in parts],
            metric: [float(per_sample(self.ranks[part], metric).mean()) for part in parts],
            "filter_rate": [1 - float(self.admitted[part].mean()) for part in parts],
        }


def measure(
    model: SequenceModel,
    encoder: Encoder,
    stream: Stream,
    config: AdaptConfig,
    seed: int,
    shared: SharedPasses | None = None,
    watch: Watch | None = None,
) -> Measurement:
    """Serve the stream with a fresh adapter. The model is left adapted: reset its weights before the next measurement.

    shared: passes of this model and stream. They are looked up, so the results equal those of serving up to rounding,
    and the seconds do not include the passes. Without them the whole stream is served. watch: only with `shared`.
    """
    assert shared is None or shared.stream is stream
    assert watch is None or shared is not None
    clock = Clock(encoder.device)
    order = by_user(stream) if config.target == "none" and shared is None else np.arange(len(stream))
    served = Stream(stream.users[order], stream.positions[order])
    adapter = adapt.build(config, model, encoder, served, clock, seed, shared)
    stopwatch = Stopwatch()
    size = SERVED_AT_ONCE if config.target == "none" else config.batch_size
    batches = [slice(start, min(start + size, len(stream))) for start in range(0, len(stream), size)]
    served_batches = []
    for rows in batches:
        served_batches.append(adapter.serve(rows))
        if watch is not None and _ends_segment(rows, len(stream)):
            ranks, reasons = _so_far(served_batches)
            watch(stream.users[: rows.stop], ranks, reasons == Reason.ADMITTED, len(stream))
    ranks, reasons = _so_far(served_batches)
    back = np.argsort(order)
    seconds = {f"{part}_seconds": clock.seconds(part) for part in ("forward", "gate", "adapt")}
    return Measurement(
        users=stream.users,
        ranks=ranks[back],
        reasons=reasons[back],
        seconds={"seconds": stopwatch.seconds, **seconds},
        costs=adapter.learned.costs(model, config, len(stream)),
        finite=bool(torch.stack([weight.sum() for weight in model.parameters()]).isfinite().all()),
    )


def _so_far(served: Sequence[tuple[torch.Tensor, Decision]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Ranks and reasons of the batches, in the order in which they were served."""
    ranks = torch.cat([ranks for ranks, _ in served]).cpu().numpy().astype(np.int32)
    return ranks, torch.cat([decision.reasons for _, decision in served]).cpu().numpy()


def _ends_segment(rows: slice, samples: int) -> bool:
    """Whether a batch reaches the end of a segment other than the last."""
    return rows.stop < samples and rows.stop * SEGMENTS // samples > rows.start * SEGMENTS // samples
