"""Target `weights`: the model's own parameters take one optimizer step per batch over its admitted samples.

Sources: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec (the report).

Symbols: B samples of a batch, D width, V items without the padding id, K of Top-K, T transitions.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.fisher import diagonal
from etarec.adapt.none import NoAdaptation, places
from etarec.adapt.transitions import Observed, Offer, ServedLosses
from etarec.config import AdaptConfig, Reason
from etarec.data import Stream
from etarec.gate import Decision, effective_top_k, topk_entropy

GATHERING_COSTS = 16  # a gathered score costs about as much as so many of a product over all items


class Weights(NoAdaptation):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

    def prepare(self, stream: Stream) -> None:
        """Look up the batches up to the first one that offers something to learn.

        The checkpoint's weights serve all of them, so their passes are the same in all trials with the same batches and
        the same to learn.
        """
        self.observed = Observed(self.encoder, stream, self.config)
        size = min(self.config.batch_size, len(stream))
        by_loss = self.gate.needs_losses
        self._until = self._unmoved(stream, size) if self.shared or by_loss else 0
        self._known = self.shared.batches(size, self._until, by_loss) if self.shared else None
        self._losses = ServedLosses(len(self.encoder.items), self.model.item_vectors.dtype) if by_loss else None
        self._moving = self.model.adaptable(self.config.parameters)
        penalised, episodic = self.config.fisher_alpha > 0, self.config.reset == "batch"
        self._fisher = self._fisher_diagonal() if penalised else []
        self._start = [weight.detach().clone() for weight in self._moving] if penalised or episodic else []
        self.model.requires_grad_(False)
        for weight in self._moving:
            weight.requires_grad_(True)
        self.optimizer = _optimizer(self.config, self._moving)

    def _unmoved(self, stream: Stream, size: int) -> int:
        """Samples of the batches that no step comes before, whatever the gate says."""
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

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if self.config.serve == "before":
            self.observed.settle(rows)
        offer = self.observed.offer(rows)
        nothing_to_learn = self._nothing_to_learn(offer, rows)
        ignored = self.gate.ignores(nothing_to_learn)
        missing = None if self._losses is None else self._losses.missing(offer, self.ends[rows])
        with torch.no_grad(), self.clock("forward"):
            hidden, before = self._forward(rows, missing)
            scan = self._scan(rows, hidden, 0 if ignored else self.scores_needed())
        assert scan.ranks is not None
        with torch.no_grad(), self.clock("gate"):
            losses = None if missing is None else self._losses_of(rows, offer, missing, before, scan)
            if ignored:
                decision = Decision(torch.full_like(scan.ranks, Reason.NOTHING_TO_LEARN, dtype=torch.int8))
            else:
                decision = self.judge(hidden, scan, nothing_to_learn, losses)
        ranks = self._learn(rows, offer, decision, scan.ranks)
        self.observed.settle(rows)
        return ranks, decision

    def _forward(self, rows: slice, missing: Offer | None) -> tuple[Tensor, Tensor | None]:
        """Hidden states of the batch [B, D] and before the transitions whose losses are missing [U, D].

        One pass gives both. Where the batch's own states are looked up they come from a pass of their own, so that they
        are the same to the last digit.
        """
        if missing is None or rows.stop <= self._until:
            return self._served(rows), None if missing is None else self._before(rows, missing)
        more = self.starts[rows][missing.owners], missing.places
        starts, ends = (np.append(x[rows], y) for x, y in zip((self.starts, self.ends), more, strict=True))
        size = len(self.ends[rows])
        hidden, before = self.encoder.hidden(self.model, starts, ends).split([size, len(starts) - size])
        return hidden, before

    def _served(self, rows: slice) -> Tensor:
        if self._known is None or rows.stop > self._until:
            return self.hidden(rows)
        return torch.from_numpy(np.array(self._known.hidden[rows])).to(self.encoder.device)

    def _scan(self, rows: slice, hidden: Tensor, top_k: int) -> scoring.Scan:
        if self._known is None or rows.stop > self._until or top_k:
            return self.scan(rows, hidden, top_k, self._losses is not None)
        losses = None if self._known.losses is None else self._known.losses[rows]
        return scoring.Scan(self._known.ranks[rows], None, None, losses)

    def _losses_of(
        self, rows: slice, offer: Offer, missing: Offer, before: Tensor | None, scan: scoring.Scan
    ) -> Tensor:
        """The mean loss of what each sample offers: [B]; NaN if it offers nothing."""
        assert self._losses is not None and before is not None and scan.losses is not None
        losses = scoring.losses(before, self.model.item_vectors, self.items(missing.places))
        self._losses.record(missing.places, losses)
        self._losses.record(self.ends[rows], scan.losses)
        return torch.from_numpy(self._losses.means(offer, len(scan.losses))).to(scan.losses)

    def _learn(self, rows: slice, offer: Offer, decision: Decision, ranks: Tensor) -> Tensor:
        """One step over the admitted samples; gives the ranks with which the batch counts."""
        if not decision.admitted.any():
            return ranks
        with self.clock("adapt"):
            self._step(rows, offer, decision)
        if self.config.serve == "after":
            with torch.no_grad(), self.clock("forward"):
                after = self.scan(rows, self.hidden(rows), top_k=0).ranks
            assert after is not None
            ranks = after
        if self.config.reset == "batch":
            self._go_back()
        return ranks

    def _step(self, rows: slice, offer: Offer, decision: Decision) -> None:
        next_item = self.config.objective == "next_item"
        loss = self._next_item(rows, offer, decision) if next_item else self._entropy(rows, decision)
        self.optimizer.zero_grad()
        loss.backward()
        for weight, start, importance in zip(self._moving, self._start, self._fisher, strict=False):
            assert weight.grad is not None  # of fisher_alpha * sum_i F_i (w_i - w0_i)^2
            weight.grad.addcmul_(importance, weight.detach() - start, value=2 * self.config.fisher_alpha)
        self.optimizer.step()

    def _fisher_diagonal(self) -> list[Tensor]:
        count = self.config.fisher_samples
        squares = self.shared.fisher(count) if self.shared else diagonal(self.model, self.encoder, count)
        return [
            squares[name] for name, weight in self.model.named_parameters() if any(weight is m for m in self._moving)
        ]

    def _go_back(self) -> None:
        """Episodic: the next batch meets the checkpoint's weights and an optimizer without memory."""
        with torch.no_grad():
            for weight, start in zip(self._moving, self._start, strict=True):
                weight.copy_(start)
        self.optimizer = _optimizer(self.config, self._moving)

    def _next_item(self, rows: slice, offer: Offer, decision: Decision) -> Tensor:
        """Mean cross-entropy of the transitions that the admitted samples offer, each from the items before it."""
        offer = offer.by(decision.admitted.cpu().numpy())
        self.observed.learned(offer.places)
        scale = None
        if decision.weights is not None:
            scale = decision.weights[torch.from_numpy(offer.owners).to(decision.weights.device)]
        hidden = self._before(rows, offer)
        return scoring.cross_entropy(hidden, self.model.items.weight, self.items(offer.places), scale, padding=1)

    def _before(self, rows: slice, offer: Offer) -> Tensor:
        """Hidden states before offered transitions: [T, D]."""
        if not len(offer.places):
            return self.model.item_vectors.new_empty(0, self.model.item_vectors.shape[1])
        return self.encoder.hidden(self.model, self.starts[rows][offer.owners], offer.places)

    def _entropy(self, rows: slice, decision: Decision) -> Tensor:
        """Weighted mean of the Top-K entropies that the gate looked at; of a small K only K scores carry gradient."""
        chosen = decision.admitted.nonzero()[:, 0]
        weights = None if decision.weights is None else decision.weights[chosen]
        vectors, hidden = self.model.item_vectors, self.hidden(places(rows, chosen))
        top_k = effective_top_k(self.config.top_k, vectors.shape[0])
        if top_k * GATHERING_COSTS < vectors.shape[0]:
            with torch.no_grad():
                top_items = scoring.scan(hidden, vectors, None, top_k).top_items
            assert top_items is not None
            top_scores = (vectors[top_items] @ hidden[:, :, None])[:, :, 0]
        else:
            top_scores = (hidden @ vectors.T).topk(top_k).values
        entropies = topk_entropy(top_scores)
        return (entropies if weights is None else entropies * weights).mean()


def _optimizer(config: AdaptConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
