"""Target `none`: serves a stream with the frozen model; the other adapters extend it."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.learned import Learned
from etarec.adapt.memory import Marks, Snapshot, named
from etarec.adapt.shared_passes import SharedPasses
from etarec.clock import Clock
from etarec.config import AdaptConfig, Reason
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.gate import Batch, Decision
from etarec.models import SequenceModel
from etarec.own_gate import gate_of
from etarec.ttt import InnerOptions

Rows = slice | npt.NDArray[np.int64]  # places of samples in the stream


class NoAdaptation:
    """Serves with the checkpoint's weights: the TTT4Rec row of the published table."""

    def __init__(
        self,
        config: AdaptConfig,
        model: SequenceModel,
        encoder: Encoder,
        stream: Stream,
        clock: Clock,
        seed: int,
        shared: SharedPasses | None,
    ):
        self.config, self.model, self.clock, self.shared = config, model, clock, shared
        self.gate, self.seed = gate_of(config, seed), seed
        self.learned = Learned()
        self.show: Callable[[Tensor], None] = lambda hidden: None
        self._place(encoder, stream)
        self.prepare(stream)

    def _place(self, encoder: Encoder, stream: Stream) -> None:
        self.encoder = encoder
        self.starts, self.ends = encoder.ranges(stream.users, stream.positions)
        self.targets = self.items(self.ends)

    def prepare(self, stream: Stream) -> None:
        """Look up the shared passes now, so that computing them once does not count as this trial's seconds."""
        self.ranks = None if self.shared is None else self.shared.ranks

    def follow(self, encoder: Encoder, stream: Stream, marks: Marks) -> None:
        self._place(encoder, stream)

    def marks(self) -> Marks:
        return Marks.blank(len(self.encoder.items))

    def snapshot(self) -> Snapshot:
        tensors, values = self.gate.snapshot()
        return Snapshot(named("gate", tensors), {"gate": values, "learned": asdict(self.learned)})

    def restore(self, snapshot: Snapshot) -> None:
        self.gate.restore(snapshot.part("gate"), snapshot.values["gate"])
        self.learned = Learned(**snapshot.values["learned"])

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        with torch.no_grad(), self.clock("forward"):
            ranks = self.scan(rows, self.hidden(rows), top_k=0).ranks if self.ranks is None else self.ranks[rows]
        assert ranks is not None
        return ranks, Decision(torch.full_like(ranks, Reason.NOT_ASKED, dtype=torch.int8))

    def hidden(self, rows: Rows, rate_scale: Tensor | None = None, inner_loop: bool = True) -> Tensor:
        return self.encoder.hidden(self.model, self.starts[rows], self.ends[rows], InnerOptions(rate_scale, inner_loop))

    def scan(self, rows: slice, hidden: Tensor, top_k: int, losses: bool = False) -> scoring.Scan:
        return scoring.scan(hidden, self.model.item_vectors, self.targets[rows], top_k, losses)

    def items(self, places: npt.NDArray[np.int64]) -> Tensor:
        """Rows of the item vectors, int[n], of the items at some places of the flat items array: int[n]."""
        return self.encoder.items[torch.from_numpy(places).to(self.encoder.device)] - 1

    def scores_needed(self) -> int:
        return self.gate.scores_needed(self.model.item_vectors.shape[0])

    def judge(
        self,
        hidden: Tensor,
        scan: scoring.Scan,
        nothing_to_learn: npt.NDArray[np.bool_],
        losses: Tensor | None = None,
    ) -> Decision:
        nothing = torch.from_numpy(nothing_to_learn).to(self.encoder.device)
        return self.gate.judge(Batch(hidden, self.model.item_vectors, scan.top_scores, scan.top_items, losses, nothing))


def places(rows: slice, chosen: Tensor) -> npt.NDArray[np.int64]:
    """Places in the stream, int[n], of chosen samples of a batch. chosen: int[n], places in the batch."""
    return rows.start + chosen.cpu().numpy()
