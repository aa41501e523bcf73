"""Target `weights`: the model's own parameters take one optimizer step per batch over its admitted samples.

Sources: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec (the report).

Symbols: B samples of a batch, D width, V items without the padding id, K of Top-K, T transitions.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.fisher import diagonal
from etarec.adapt.none import NoAdaptation, places
from etarec.adapt.transitions import Observed
from etarec.config import AdaptConfig
from etarec.data import Stream
from etarec.gate import Decision, topk_entropy

GATHERING_COSTS = 16  # a gathered score costs about as much as so many of a product over all items


class _Offered(NamedTuple):
    """Transitions that samples of a batch may learn from: their samples int[T], as places in the batch, and their own
    places int[T]; of those whose loss is not known yet the places int[U] and the hidden states [U, D] before them."""

    owner: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]
    before: Tensor


class Weights(NoAdaptation):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

    def prepare(self, stream: Stream) -> None:
        """The checkpoint's weights serve all batches up to the first that offers something to learn, so that their
        passes are the same in all trials with the same batches and the same to learn."""
        self.observed = Observed(self.encoder, stream, self.config)
        gated_by = self.config.objective, self.config.gate, self.config.criterion
        self._gated_by_loss = gated_by == ("next_item", "eta", "loss")
        size = min(self.config.batch_size, len(stream))
        self._until = self._unmoved(stream, size) if self.shared or self._gated_by_loss else 0
        self._known = self.shared.batches(size, self._until, self._gated_by_loss) if self.shared else None
        kept = len(self.encoder.items) if self._gated_by_loss else 0  # a loss by the place of a transition
        self._losses = torch.full((kept,), torch.nan, dtype=self.model.item_vectors.dtype)
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
                probe.served(rows)
            if not self._nothing(probe, rows).all():
                return rows.stop
            probe.served(rows)
        return len(stream)

    def _nothing(self, observed: Observed, rows: slice) -> npt.NDArray[np.bool_]:
        """Samples of a batch that offer nothing to learn from."""
        part = self._places(rows)
        return np.zeros(len(part), np.bool_) if self.config.objective == "entropy" else observed.nothing(part)

    def _places(self, rows: slice) -> npt.NDArray[np.int64]:
        return np.arange(rows.start, min(rows.stop, len(self.ends)))

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if self.config.serve == "before":
            self.observed.served(rows)
        nothing = self._nothing(self.observed, rows)
        passed_by = self.gate.passes_by(nothing)
        with torch.no_grad(), self.clock("forward"):
            hidden, offered = self._forward(rows)
            scan = self._scan(rows, hidden, 0 if passed_by else self.scores_needed())
        with torch.no_grad(), self.clock("gate"):
            losses = None if offered is None else self._losses_of(rows, offered, scan.losses)
            decision = self.judge(hidden, scan, nothing, losses, passed_by)
        chosen = decision.admitted.nonzero()[:, 0]
        if len(chosen):
            with self.clock("adapt"):
                self._step(places(rows, chosen), None if decision.weights is None else decision.weights[chosen])
            if self.config.serve == "after":
                with torch.no_grad(), self.clock("forward"):
                    scan = self.scan(rows, self.hidden(rows), top_k=0)
            if self.config.reset == "batch":
                self._go_back()
        self.observed.served(rows)
        assert scan.ranks is not None
        return scan.ranks, decision

    def _forward(self, rows: slice) -> tuple[Tensor, _Offered | None]:
        """The batch's hidden states and, where the gate asks for losses, what its samples may learn.

        One pass gives both; where the batch's own may be looked up it is apart, to be the same to the last digit.
        """
        if not self._gated_by_loss:
            return self._served(rows), None
        part = self._places(rows)
        owner, places = self.observed.of(part)
        known = ~np.isnan(self._losses.numpy()[places]) | np.isin(places, self.ends[rows])
        asked, offers = np.unique(places[~known], return_index=True)
        owners = part[owner[~known][offers]]
        if rows.stop <= self._until:
            hidden, before = self._served(rows), self._before(owners, asked)
        else:
            starts, ends = (np.append(x[rows], y) for x, y in ((self.starts, self.starts[owners]), (self.ends, asked)))
            hidden, before = self.encoder.hidden(self.model, starts, ends).split([len(part), len(asked)])
        return hidden, _Offered(owner, places, asked, before)

    def _served(self, rows: slice) -> Tensor:
        if self._known is None or rows.stop > self._until:
            return self.hidden(rows)
        return torch.from_numpy(np.array(self._known.hidden[rows])).to(self.encoder.device)

    def _scan(self, rows: slice, hidden: Tensor, top_k: int) -> scoring.Scan:
        if self._known is None or rows.stop > self._until or top_k:
            return self.scan(rows, hidden, top_k, self._gated_by_loss)
        losses = None if self._known.losses is None else self._known.losses[rows]
        return scoring.Scan(self._known.ranks[rows], None, None, losses)

    def _losses_of(self, rows: slice, offered: _Offered, served: Tensor | None) -> Tensor:
        """For `criterion: loss` the mean loss of what each sample offers; of nothing it is not a number.

        A transition's loss is that at which its own sample was served; only of one that came before the stream it is
        computed, once. served: [B], the losses of the batch's own targets.
        """
        assert served is not None
        losses = scoring.losses(offered.before, self.model.item_vectors, self.items(offered.unknown))
        self._losses[torch.from_numpy(offered.unknown)] = losses.to(self._losses)
        self._losses[torch.from_numpy(self.ends[rows])] = served.to(self._losses)
        counts = np.bincount(offered.owner, minlength=len(served))
        sums = np.bincount(offered.owner, self._losses.numpy()[offered.places], minlength=len(served))
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(sums / counts).to(served)

    def _step(self, part: npt.NDArray[np.int64], weights: Tensor | None) -> None:
        loss = self._next_item(part, weights) if self.config.objective == "next_item" else self._entropy(part, weights)
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

    def _next_item(self, part: npt.NDArray[np.int64], weights: Tensor | None) -> Tensor:
        """Mean cross-entropy of the transitions that the samples' own inputs show, each from the items before."""
        owner, places = self.observed.of(part)
        self.observed.learned(places)
        hidden = self._before(part[owner], places)
        scale = None if weights is None else weights[torch.from_numpy(owner).to(weights.device)]
        return scoring.cross_entropy(hidden, self.model.items.weight, self.items(places), scale, padding=1)

    def _before(self, part: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> Tensor:
        """Hidden states [T, D] before transitions of the samples `part`."""
        if not len(places):
            return self.model.item_vectors.new_empty(0, self.model.item_vectors.shape[1])
        return self.encoder.hidden(self.model, self.starts[part], places)

    def _entropy(self, part: npt.NDArray[np.int64], weights: Tensor | None) -> Tensor:
        """Weighted mean of the Top-K entropies that the gate looked at; of a small K only K scores carry gradient."""
        vectors, hidden = self.model.item_vectors, self.hidden(part)
        top_k = min(self.config.top_k or vectors.shape[0], vectors.shape[0])
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
