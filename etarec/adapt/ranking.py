"""Ranks and judges batches whose samples offer transitions: the half of target `weights` that learns nothing.

Symbols: B samples of a batch, D width, T transitions.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import likelihood, scoring
from etarec.adapt.memory import Marks, Snapshot
from etarec.adapt.none import NoAdaptation
from etarec.adapt.served import Served, ServedLosses
from etarec.adapt.transitions import NO_TRANSITIONS, Observed, Offer
from etarec.config import Reason
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.gate import Decision


class Ranking(NoAdaptation):
    """Ranks a batch with the present weights, and keeps the states and losses that its gate and its step need."""

    def prepare(self, stream: Stream) -> None:
        """Look up the batches up to the first one that offers something to learn.

        The checkpoint's weights serve these batches, so trials with the same batches and objective share their passes.
        """
        size = max(1, min(self.config.batch_size, len(stream)))
        by_loss = self.gate.needs_losses
        self._offered = False  # whether a batch so far had something to teach
        self._keeps_residual = self.config.filtered in ("residual", "mlp")
        self._until = self._unmoved(stream, size) if self.shared or by_loss else 0
        self._known = self.shared.batches(size, self._until, by_loss) if self.shared else None

    def _place(self, encoder: Encoder, stream: Stream) -> None:
        super()._place(encoder, stream)
        self.observed = Observed(encoder, stream, self.config)
        by_loss = self.gate.needs_losses
        self._losses = ServedLosses(len(encoder.items), self.model.item_vectors.dtype) if by_loss else None

    def follow(self, encoder: Encoder, stream: Stream, marks: Marks) -> None:
        super().follow(encoder, stream, marks)
        self.observed.recall(marks.bits)
        if self._losses is not None:
            self._losses.recall(marks.losses)
        self._known, self._until = None, 0 if self._losses is None or self._offered else len(stream)

    def marks(self) -> Marks:
        blank = super().marks()
        return Marks(self.observed.marks(), blank.losses if self._losses is None else self._losses.marks())

    def snapshot(self) -> Snapshot:
        gate = super().snapshot()
        return Snapshot(gate.tensors, gate.values | {"offered": self._offered})

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self._offered = snapshot.values["offered"]

    def _unmoved(self, stream: Stream, size: int) -> int:
        """Number of samples in the batches that are served before any step, whatever the gate decides."""
        probe = Observed(self.encoder, stream, self.config)
        for start in range(0, len(stream), size):
            rows = slice(start, min(start + size, len(stream)))
            if self.config.serve == "before":
                probe.settle(rows)
            if not self._nothing_to_learn(probe.offer(rows), rows).all():
                return rows.stop
            probe.settle(rows)
        return len(stream)

    def _nothing_to_learn(self, offer: Offer, rows: slice) -> npt.NDArray[np.bool_]:
        size = len(self.ends[rows])
        return np.zeros(size, np.bool_) if self.config.objective == "entropy" else offer.nothing_to_learn(size)

    def rank(self, rows: slice, offer: Offer) -> tuple[Served, Tensor, Decision]:
        """The states of a batch, ranks int[B] of its targets, and what the gate decides about its samples.

        offer: the transitions that the batch offers.
        """
        nothing_to_learn = self._nothing_to_learn(offer, rows)
        ignored = self.gate.ignores(nothing_to_learn)
        with torch.no_grad(), self.clock("forward"):
            served = self._forward(rows, offer)
            scan = self._scan(rows, served.hidden, 0 if ignored else self.scores_needed())
        assert scan.ranks is not None
        with torch.no_grad(), self.clock("gate"):
            losses = self._losses_of(rows, offer, served, scan)
            if ignored:
                decision = Decision(torch.full_like(scan.ranks, Reason.NOTHING_TO_LEARN, dtype=torch.int8))
            else:
                decision = self.judge(served.hidden, scan, nothing_to_learn, losses)
        self._offered |= not nothing_to_learn.all()
        return served, scan.ranks, decision

    def _forward(self, rows: slice, offer: Offer) -> Served:
        """Serve the batch, and get the states before further transitions that the gate or a shallow step will need.

        One pass computes both. While the batch's states are looked up, the others have a pass of their own, so that the
        batch's states are the same to the last digit with and without shared passes.
        """
        further = self._further(rows, offer)
        size = len(self.ends[rows])
        if rows.stop <= self._until and not self._keeps_residual:
            hidden, before = self._looked_up(rows), self._before(rows, further)
            return Served(torch.cat((hidden, before)), None, size, further)
        starts = np.append(self.starts[rows], self.starts[rows][further.owners])
        ends = np.append(self.ends[rows], further.places)
        if not self._keeps_residual:
            return Served(self.encoder.hidden(self.model, starts, ends), None, size, further)
        residual = self.encoder.hidden(self.model, starts, ends, residual=True)
        return Served(self.model.finish(residual), residual, size, further)

    def _further(self, rows: slice, offer: Offer) -> Offer:
        """Transitions, each once, that lie inside the inputs of the batch and whose states are asked for."""
        parts = [] if self._losses is None else [self._losses.missing(offer, self.ends[rows])]
        if self.config.filtered != "nothing" and self.config.feedback == "next_request":
            parts.append(self.observed.shallow(offer, NO_TRANSITIONS.places))
        owners, places = (np.concatenate([part[n] for part in parts] or [np.empty(0, np.int64)]) for n in range(2))
        places, first = np.unique(places, return_index=True)
        return Offer(owners[first], places)

    def _looked_up(self, rows: slice) -> Tensor:
        if self._known is None:
            return self.hidden(rows)
        return torch.from_numpy(np.array(self._known.hidden[rows])).to(self.encoder.device)

    def _scan(self, rows: slice, hidden: Tensor, top_k: int) -> scoring.Scan:
        if self._known is None or rows.stop > self._until or top_k:
            return self.scan(rows, hidden, top_k, self._losses is not None)
        losses = None if self._known.losses is None else self._known.losses[rows]
        return scoring.Scan(self._known.ranks[rows], None, None, losses)

    def _losses_of(self, rows: slice, offer: Offer, served: Served, scan: scoring.Scan) -> Tensor | None:
        """For a gate that looks at losses, the mean loss of the transitions that each sample offers: [B].

        With `correction: selection` it is the loss of the newest one, as each transition is decided on by its own.
        """
        if self._losses is None:
            return None
        assert scan.losses is not None
        missing = self._losses.missing(offer, self.ends[rows])
        before = served.before(missing, self.ends[rows], served.states)
        self._losses.record(
            missing.places, likelihood.losses(before, self.model.item_vectors, self.items(missing.places))
        )
        self._losses.record(self.ends[rows], scan.losses)
        counted = offer if self.config.correction == "none" else offer.newest()
        return torch.from_numpy(self._losses.means(counted, len(scan.losses))).to(scan.losses)

    def _before(self, rows: slice, offer: Offer) -> Tensor:
        """Hidden states before offered transitions: [T, D]."""
        if not len(offer.places):
            return self.model.item_vectors.new_empty(0, self.model.item_vectors.shape[1])
        return self.encoder.hidden(self.model, self.starts[rows][offer.owners], offer.places)
