"""The adapters of test-time adaptation, one shape for all: a batch goes in, ranks and the gate's decision come out.

`weights`: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec: the model's own parameters take one
optimizer step per batch over the admitted samples. `state`: the TTT layer's fast weights take their steps for admitted
samples only (arXiv 2407.04620). `none`: the frozen model. What a stream's `FrozenPasses` know is looked up, if given.

Symbols: B samples of a batch, A admitted ones, D width, V items without the padding id, K of Top-K.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.fisher import diagonal
from etarec.adapt.shared_passes import BATCH, FrozenPasses
from etarec.adapt.transitions import Observed
from etarec.clock import Clock
from etarec.config import AdaptConfig, UserError
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.gate import Decision, Gate, topk_entropy
from etarec.models import SequenceModel

KEPT_SCORES = 2**22  # of Top-K scores of batches whose passes are made at once
GATHERING_COSTS = 16  # a gathered score costs about as much as so many of a product over all items

Rows = slice | npt.NDArray[np.int64]  # places in the stream


class Adapter(Protocol):
    """Serves the batches of a stream in order."""

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        """Ranks int[B] of the batch's targets, and what the gate decided. rows: the batch's places in the stream."""


def build(
    config: AdaptConfig,
    model: SequenceModel,
    encoder: Encoder,
    stream: Stream,
    clock: Clock,
    seed: int,
    frozen: FrozenPasses | None = None,
) -> "Adapter":
    """The adapter of a configuration for a stream; target `weights` changes the model in place.

    frozen: of this very stream and model, looked up instead of computed. Raises UserError for target `state` of a model
    without an inner loop.
    """
    if config.target == "state" and not model.has_inner_loop:
        raise UserError(
            f"adapt.target: state adapts an inner loop, which {model.config.name} has not; expected weights"
        )
    model.eval()
    kinds: dict[str, type[_Frozen]] = {"none": _Frozen, "state": _State, "weights": _Weights}
    return kinds[config.target](config, model, encoder, stream, clock, seed, frozen)


class _Offered(NamedTuple):
    """Transitions that samples of a batch may learn from: their samples int[T], as places in the batch, and their own
    places int[T]; of those whose loss is not known yet the places int[U] and the hidden states [U, D] before them."""

    owner: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]
    before: Tensor


class _Frozen:
    """No adaptation: the TTT4Rec row of the published table."""

    def __init__(
        self,
        config: AdaptConfig,
        model: SequenceModel,
        encoder: Encoder,
        stream: Stream,
        clock: Clock,
        seed: int,
        frozen: FrozenPasses | None,
    ):
        self.config, self.model, self.encoder, self.clock, self.frozen = config, model, encoder, clock, frozen
        self.gate = Gate(config, seed)
        self.starts, self.ends = encoder.ranges(stream.users, stream.positions)
        self.targets = self.items(self.ends)
        self.prepare(stream)

    def prepare(self, stream: Stream) -> None:
        """Gets what will be looked up here, so that computing it once counts to no trial's seconds."""
        self.served = None if self.frozen is None else self.frozen.ranks

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        with torch.no_grad(), self.clock("forward"):
            ranks = self.scan(rows, self.hidden(rows), top_k=0).ranks if self.served is None else self.served[rows]
        assert ranks is not None
        none = torch.zeros_like(ranks, dtype=torch.bool)
        return ranks, Decision(none, none, none, none, none, none, None)

    def hidden(self, rows: Rows, rate_scale: Tensor | None = None, inner_loop: bool = True) -> Tensor:
        return self.encoder.hidden(self.model, self.starts[rows], self.ends[rows], rate_scale, inner_loop)

    def scan(self, rows: slice, hidden: Tensor, top_k: int, losses: bool = False) -> scoring.Scan:
        return scoring.scan(hidden, self.model.item_vectors, self.targets[rows], top_k, losses)

    def items(self, places: npt.NDArray[np.int64]) -> Tensor:
        """Rows int[n] of the item vectors: the items at places of the flat items array."""
        return self.encoder.items[torch.from_numpy(places).to(self.encoder.device)] - 1

    def scores_needed(self) -> int:
        return self.gate.scores_needed(self.model.item_vectors.shape[0])

    def judge(
        self,
        hidden: Tensor,
        scan: scoring.Scan,
        seen: npt.NDArray[np.bool_],
        losses: Tensor | None = None,
        passed_by: bool = False,
    ) -> Decision:
        closed = torch.from_numpy(seen).to(self.encoder.device)
        if passed_by:
            return Decision.nobody(closed)
        return self.gate.judge(hidden, self.model.item_vectors, scan, closed, losses)


class _State(_Frozen):
    """Admitted samples are served through the inner loop, the others with the learned initial fast weights.

    The gate looks at the scores of the frozen pass; nothing outlives a sample. So the passes of many batches are made
    at once, and only the gate takes them one after another. Looked up, what costs anything is the gate, and the inner
    loop of admitted samples only where weights scale its rate.
    """

    def prepare(self, stream: Stream) -> None:
        weighted = self.config.gate == "eta" and self.config.weighting == "entropy"
        self.served = None if self.frozen is None or weighted else self.frozen.ranks
        self._ahead: dict[int, tuple[Tensor, Decision]] = {}  # by a batch's first place
        if self.frozen is not None:
            self.frozen.initial_hidden(slice(0))

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if rows.start not in self._ahead:
            size, at_once = rows.stop - rows.start, min(BATCH, KEPT_SCORES // max(1, self.scores_needed()))
            end = min(rows.start + max(1, at_once // size) * size, len(self.ends))
            self._serve_all([slice(start, min(start + size, end)) for start in range(rows.start, end, size)])
        return self._ahead.pop(rows.start)

    def _serve_all(self, batches: list[slice]) -> None:
        start, whole = batches[0].start, slice(batches[0].start, batches[-1].stop)
        with torch.no_grad(), self.clock("forward"):
            hidden, scan = self._frozen_pass(whole)
        assert scan.ranks is not None
        with torch.no_grad(), self.clock("gate"):
            parts = [slice(rows.start - start, rows.stop - start) for rows in batches]
            nothing_seen = np.zeros(len(hidden), np.bool_)
            decisions = [self.judge(hidden[part], scan.of(part), nothing_seen[part]) for part in parts]
        with torch.no_grad(), self.clock("adapt"):
            ranks = self._adapted(whole, scan.ranks, decisions)
        self._ahead = {
            rows.start: (ranks[part], decision) for rows, part, decision in zip(batches, parts, decisions, strict=True)
        }

    def _frozen_pass(self, rows: slice) -> tuple[Tensor, scoring.Scan]:
        top_k = self.scores_needed()
        if self.frozen is None:
            hidden = self.hidden(rows, inner_loop=False)
            return hidden, self.scan(rows, hidden, top_k)
        hidden, ranks = self.frozen.initial_hidden(rows), self.frozen.initial_ranks[rows]
        scan = scoring.Scan(ranks, None, None)
        if top_k:
            scan = scoring.scan(hidden, self.model.item_vectors, None, top_k)._replace(ranks=ranks)
        return hidden, scan

    def _adapted(self, rows: slice, ranks: Tensor, decisions: list[Decision]) -> Tensor:
        admitted = torch.cat([decision.admitted for decision in decisions])
        if self.served is not None:
            return torch.where(admitted, self.served[rows], ranks)
        chosen = admitted.nonzero()[:, 0]
        if not len(chosen):
            return ranks
        weights = [decision.weights for decision in decisions if decision.weights is not None]
        hidden = self.hidden(places(rows, chosen), torch.cat(weights)[chosen] if weights else None)
        adapted = scoring.scan(hidden, self.model.item_vectors, self.targets[rows][chosen], top_k=0).ranks
        assert adapted is not None
        return ranks.index_copy(0, chosen, adapted.to(ranks.dtype))


class _Weights(_Frozen):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

    def prepare(self, stream: Stream) -> None:
        """The checkpoint's weights serve all batches up to the first that offers something to learn, so that their
        passes are the same in all trials with the same batches and the same to learn."""
        self.observed = Observed(self.encoder, stream, self.config)
        gated_by = self.config.objective, self.config.gate, self.config.criterion
        self._gated_by_loss = gated_by == ("next_item", "eta", "loss")
        size = min(self.config.batch_size, len(stream))
        self._until = self._unmoved(stream, size) if self.frozen or self._gated_by_loss else 0
        self._known = self.frozen.batches(size, self._until, self._gated_by_loss) if self.frozen else None
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
        squares = self.frozen.fisher(count) if self.frozen else diagonal(self.model, self.encoder, count)
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


def places(rows: slice, chosen: Tensor) -> npt.NDArray[np.int64]:
    """Where in the stream the chosen samples of a batch are."""
    return rows.start + chosen.cpu().numpy()


def _optimizer(config: AdaptConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
