"""The adapters of test-time adaptation, one shape for all: a batch goes in, ranks and the gate's decision come out.

`weights`: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec: the model's own parameters take one
optimizer step per batch over the admitted samples. `state`: the TTT layer's fast weights take their steps for admitted
samples only (arXiv 2407.04620). `none`: the frozen model.

Symbols: B samples of a batch, A admitted ones, D width, V items without the padding id, K of Top-K.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.clock import Clock
from etarec.config import AdaptConfig
from etarec.data import Stream, new_transition
from etarec.encode import Encoder
from etarec.gate import Decision, Gate, topk_entropy
from etarec.models import SequenceModel

GATHERING_COSTS = 16  # a gathered score costs about as much as so many of a product over all items


@dataclass(frozen=True)
class Batch:
    """B samples of a stream: users and positions int32[B]."""

    users: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]


class Adapter(Protocol):
    """Serves batches of a stream in order."""

    def serve(self, batch: Batch) -> tuple[Tensor, Decision]:
        """Ranks int[B] of the batch's targets, and what the gate decided."""


def build(
    config: AdaptConfig, model: SequenceModel, encoder: Encoder, stream: Stream, clock: Clock, seed: int
) -> "Adapter":
    """The adapter of a configuration for a stream; target `weights` changes the model in place."""
    model.eval()
    if config.target == "weights":
        return _Weights(config, model, encoder, stream, clock, seed)
    return (_State if config.target == "state" else _Frozen)(config, model, encoder, clock, seed)


class _Frozen:
    """No adaptation: the TTT4Rec row of the published table."""

    def __init__(self, config: AdaptConfig, model: SequenceModel, encoder: Encoder, clock: Clock, seed: int):
        self.config, self.model, self.encoder, self.clock = config, model, encoder, clock
        self.gate = Gate(config, seed)

    def serve(self, batch: Batch) -> tuple[Tensor, Decision]:
        with torch.no_grad(), self.clock("forward"):
            scan = scoring.scan(self.hidden(batch), self.model.item_vectors, self.targets(batch), top_k=0)
        assert scan.ranks is not None
        none = torch.zeros_like(scan.ranks, dtype=torch.bool)
        return scan.ranks, Decision(none, none, none, none, none, None)

    def hidden(self, batch: Batch, inner_loop: bool = True) -> Tensor:
        starts, ends = self.encoder.ranges(batch.users, batch.positions)
        return self.encoder.hidden(self.model, starts, ends, inner_loop=inner_loop)

    def targets(self, batch: Batch) -> Tensor:
        """Rows of the item vectors: int[B]."""
        ends = self.encoder.data.offsets[batch.users] + batch.positions
        return self.encoder.items[torch.from_numpy(ends).to(self.encoder.device)] - 1

    def judge(self, batch: Batch, hidden: Tensor, scan: scoring.Scan, seen: npt.NDArray[np.bool_]) -> Decision:
        with torch.no_grad(), self.clock("gate"):
            return self.gate.judge(
                hidden, self.model.item_vectors, scan, torch.from_numpy(seen).to(self.encoder.device)
            )

    def scan(self, batch: Batch, hidden: Tensor, with_top: bool = True) -> scoring.Scan:
        vectors = self.model.item_vectors
        top_k = self.gate.scores_needed(vectors.shape[0]) if with_top else 0
        return scoring.scan(hidden, vectors, self.targets(batch), top_k)


class _State(_Frozen):
    """Admitted samples are served through the inner loop, the others with the learned initial fast weights.

    The gate looks at the scores of the frozen pass; nothing outlives a sample.
    """

    def serve(self, batch: Batch) -> tuple[Tensor, Decision]:
        with torch.no_grad(), self.clock("forward"):
            hidden = self.hidden(batch, inner_loop=False)
            scan = self.scan(batch, hidden)
        assert scan.ranks is not None
        decision = self.judge(batch, hidden, scan, np.zeros(len(batch.users), np.bool_))
        with torch.no_grad(), self.clock("adapt"):
            return self._adapted(batch, scan.ranks, decision), decision

    def _adapted(self, batch: Batch, ranks: Tensor, decision: Decision) -> Tensor:
        chosen = decision.admitted.nonzero()[:, 0]
        if not len(chosen):
            return ranks
        part = select(batch, chosen)
        starts, ends = self.encoder.ranges(part.users, part.positions)
        scale = None if decision.weights is None else decision.weights[chosen]
        hidden = self.encoder.hidden(self.model, starts, ends, rate_scale=scale)
        adapted = self.scan(part, hidden, with_top=False).ranks
        assert adapted is not None
        return ranks.index_copy(0, chosen, adapted)


class _Weights(_Frozen):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

    def __init__(
        self, config: AdaptConfig, model: SequenceModel, encoder: Encoder, stream: Stream, clock: Clock, seed: int
    ):
        super().__init__(config, model, encoder, clock, seed)
        self._unserved = np.zeros(encoder.data.n_interactions, np.bool_)  # targets that are still to be ranked
        self._unserved[encoder.data.offsets[stream.users] + stream.positions] = True
        moving = model.adaptable(config.parameters)
        model.requires_grad_(False)
        for parameter in moving:
            parameter.requires_grad_(True)
        self.optimizer = _optimizer(config, moving)

    def serve(self, batch: Batch) -> tuple[Tensor, Decision]:
        with torch.no_grad(), self.clock("forward"):
            hidden = self.hidden(batch)
            scan = self.scan(batch, hidden)
        if self.config.serve == "before":
            self._mark_served(batch)
        decision = self.judge(batch, hidden, scan, self._without_loss(batch))
        chosen = decision.admitted.nonzero()[:, 0]
        if len(chosen):
            with self.clock("adapt"):
                self._step(select(batch, chosen), None if decision.weights is None else decision.weights[chosen])
            if self.config.serve == "after":
                with torch.no_grad(), self.clock("forward"):
                    scan = self.scan(batch, self.hidden(batch), with_top=False)
        self._mark_served(batch)
        assert scan.ranks is not None
        return scan.ranks, decision

    def _mark_served(self, batch: Batch) -> None:
        self._unserved[self.encoder.data.offsets[batch.users] + batch.positions] = False

    def _without_loss(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """Samples that offer `next_item` no transition, or under `new_transitions_only` one of the training split.

        Nothing may be learned from a target before its own rank is settled: `serve: after` settles it after the step,
        and the order `shuffled` serves a user's later samples before earlier ones.
        """
        if self.config.objective == "entropy":
            return np.zeros(len(batch.users), np.bool_)
        starts, ends = self.encoder.ranges(batch.users, batch.positions)
        without = (ends - starts < 2) | self._unserved[ends - 1]
        if self.config.new_transitions_only:
            without |= ~new_transition(self.encoder.data, batch.users, batch.positions)
        return without

    def _step(self, part: Batch, weights: Tensor | None) -> None:
        loss = self._next_item(part, weights) if self.config.objective == "next_item" else self._entropy(part, weights)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _next_item(self, part: Batch, weights: Tensor | None) -> Tensor:
        """Cross-entropy of the last transition inside each sample's input: its last item, from the items before."""
        starts, ends = self.encoder.ranges(part.users, part.positions)
        hidden = self.encoder.hidden(self.model, starts, ends - 1)
        observed = self.encoder.items[torch.from_numpy(ends - 1).to(self.encoder.device)] - 1
        return scoring.cross_entropy(hidden, self.model.item_vectors, observed, weights)

    def _entropy(self, part: Batch, weights: Tensor | None) -> Tensor:
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


def select(batch: Batch, chosen: Tensor) -> Batch:
    index = chosen.cpu().numpy()
    return Batch(batch.users[index], batch.positions[index])


def _optimizer(config: AdaptConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
