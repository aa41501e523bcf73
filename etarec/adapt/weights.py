"""Target `weights`: the model's own parameters take one optimizer step per batch over its admitted samples.

Sources: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec (the report).

Symbols: B samples of a batch, D width, V items without the padding id, K of Top-K, T transitions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import likelihood, scoring
from etarec.adapt.fisher import diagonal
from etarec.adapt.memory import Marks, Snapshot, generator_state, moments, named, restore_moments
from etarec.adapt.none import NoAdaptation, places
from etarec.adapt.transitions import Observed, Offer, ServedLosses
from etarec.config import AdaptConfig, Reason
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.gate import Decision, effective_top_k, reliable, topk_entropy

GATHERING_COSTS = 16  # one gathered score costs about as much as this many scores of a product over all items


NO_TRANSITIONS = Offer(np.empty(0, np.int64), np.empty(0, np.int64))


class Served(NamedTuple):
    """The results of serving a batch of B samples.

    states: [B + U, D], hidden states of the samples, and before U further transitions; residual: [B + U, P D], what
    `SequenceModel.residual` gives there, where a shallow step will learn that far; further: the U transitions.
    """

    states: Tensor
    residual: Tensor | None
    size: int
    further: Offer

    @property
    def hidden(self) -> Tensor:
        """[B, D]"""
        return self.states[: self.size]

    def before(self, offer: Offer, own: npt.NDArray[np.int64], states: Tensor) -> Tensor:
        """Rows of `states` or `residual` before transitions: own targets int[B] of the batch, or further ones."""
        further = self.size + np.searchsorted(self.further.places, offer.places)
        index = np.where(offer.places == own[offer.owners], offer.owners, further)
        return states[torch.from_numpy(index).to(states.device)]


class Weights(NoAdaptation):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

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
        self._moving = self.model.adaptable(self.config.parameters)
        penalised, episodic = self.config.fisher_alpha > 0, self.config.reset == "batch"
        self._fisher = self._fisher_diagonal() if penalised else []
        self._start = [weight.detach().clone() for weight in self._moving] if penalised or episodic else []
        self.model.requires_grad_(False)
        for weight in self._moving:
            weight.requires_grad_(True)
        self.optimizer = _optimizer(self.config, self._moving)
        self._dropouts = [each for each in self.model.modules() if isinstance(each, torch.nn.Dropout)]
        self._dropped, self._drawn = (np.random.default_rng([self.seed, n]) for n in range(2))

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
        moved = named("weight", {str(n): weight for n, weight in enumerate(self._moving)})
        tensors = gate.tensors | moved | named("moment", moments(self.optimizer))
        drawn = [generator_state(generator) for generator in (self._dropped, self._drawn)]
        return Snapshot(tensors, gate.values | {"offered": self._offered, "drawn": drawn})

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        weights = snapshot.part("weight")
        with torch.no_grad():
            for n, weight in enumerate(self._moving):
                weight.copy_(weights[str(n)])
        self.optimizer = _optimizer(self.config, self._moving)
        restore_moments(self.optimizer, snapshot.part("moment"))
        self._offered = snapshot.values["offered"]
        for generator, state in zip((self._dropped, self._drawn), snapshot.values["drawn"], strict=True):
            generator.bit_generator.state = state

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

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if self.config.serve == "before":
            self.observed.settle(rows)
        offer = self.observed.offer(rows)
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
        self._count_every(rows, offer)
        self.show(served.hidden)
        ranks = self._learn(rows, offer, decision, served, scan.ranks)
        self.observed.settle(rows)
        self._offered |= not nothing_to_learn.all()
        return ranks, decision

    def _count_every(self, rows: slice, offer: Offer) -> None:
        """Count what an adapter learns that takes every sample."""
        if self.config.objective == "next_item":
            all_learned = self.observed.learned_by_all(offer)
            newest = all_learned.newest()
            lengths, outputs = newest.places - self.starts[rows][newest.owners], len(all_learned.distinct().places)
        else:
            lengths = self.ends[rows] - self.starts[rows]
            outputs = len(lengths)
        self.learned.every_tokens += int(lengths.sum())
        self.learned.every_outputs += outputs

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

    def _learn(self, rows: slice, offer: Offer, decision: Decision, served: Served, ranks: Tensor) -> Tensor:
        """Take one step over what the batch teaches and return the ranks of the batch that count."""
        skipped_teach = self.config.filtered != "nothing" and len(offer.places) > 0
        if not (skipped_teach or decision.admitted.any()):
            return ranks
        with self.clock("adapt"):
            if self.config.objective == "next_item":
                learned = self._learn_transitions(rows, offer, decision, served)
            else:
                learned = self._learn_entropies(rows, decision)
        if learned and self.config.serve == "after":
            with torch.no_grad(), self.clock("forward"):
                hidden = self.hidden(rows)
                after = self.scan(rows, hidden, top_k=0).ranks
            assert after is not None
            self.show(hidden)
            ranks = after
        if learned and self.config.reset == "batch":
            self._go_back()
        return ranks

    def _learn_transitions(self, rows: slice, offer: Offer, decision: Decision, served: Served) -> bool:
        """Mean cross-entropy of the transitions that the batch teaches, each from the items before it.

        The transitions of admitted samples are learned by a pass over their sequences, the newest transition of a
        skipped sample by a shallow step. A pass over a transition that took a shallow step before leaves the item
        vectors at the output alone. Returns whether there was anything to learn.
        """
        admitted = decision.admitted.cpu().numpy()
        taught = self._selected(offer.by(admitted), decision)
        full = taught.distinct()
        learns_shallowly = self.config.filtered != "nothing"
        shallow = self.observed.shallow(offer.by(~admitted), full.places) if learns_shallowly else NO_TRANSITIONS
        total = len(full.places) + len(shallow.places)
        if not total:
            return False
        self._count(rows, taught, len(full.places), len(shallow.places))
        losses = [*self._by_passes(rows, full, decision, total), *self._by_shallow_steps(rows, shallow, served, total)]
        self.observed.learned(full.places)
        self.observed.learned_shallowly(shallow.places)
        self._step(sum(losses[1:], losses[0]))
        return True

    def _selected(self, taught: Offer, decision: Decision) -> Offer:
        """With `correction: selection`, the transitions that the gate would admit; the others stay offered."""
        if self._losses is None or self.config.correction == "none" or decision.threshold is None:
            return taught
        newest = np.diff(taught.owners, append=-1) != 0  # the gate's decision was about these
        return taught.where(newest | reliable(self._losses.of(taught), decision.threshold, self.config.admit).numpy())

    def _count(self, rows: slice, taught: Offer, outputs: int, shallow: int) -> None:
        newest = taught.newest()
        self.learned.passes += len(newest.places)
        self.learned.tokens += int((newest.places - self.starts[rows][newest.owners]).sum())
        self.learned.outputs += outputs
        self.learned.shallow += shallow

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """Dropout as in training, from random numbers of this measurement's own; prefixes of a pass share a mask."""
        if not self.config.dropout:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(int(self._dropped.integers(2**63)))
            for each in self._dropouts:
                each.p, each.training = self.config.dropout, True
            try:
                yield
            finally:
                for each in self._dropouts:
                    each.training = False

    def _by_passes(self, rows: slice, offer: Offer, decision: Decision, total: int) -> Iterator[Tensor]:
        """Losses of transitions learned by passes over their sequences; their sum over `total` counts."""
        if not len(offer.places):
            return
        with self._dropout():
            hidden = self._before(rows, offer)
        targets = self.items(offer.places)
        weights = hidden.new_ones(len(targets))
        if decision.weights is not None:
            weights = decision.weights[torch.from_numpy(offer.owners).to(weights.device)]
        table, repeated = self.model.items.weight, self.observed.took_shallow_step(offer.places)
        if not repeated.any():
            yield self._likelihood(hidden, table, targets, weights / total, decision)
            return
        for chosen, vectors in ((~repeated, table), (repeated, table.detach())):
            if chosen.any():
                part = torch.from_numpy(chosen).to(hidden.device)
                yield self._likelihood(hidden[part], vectors, targets[part], weights[part] / total, decision)

    def _likelihood(
        self, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, decision: Decision
    ) -> Tensor:
        """Sum of weights . -log p(target)."""
        if self.config.correction == "none" or decision.threshold is None:
            return likelihood.cross_entropy_sum(hidden, table, targets, weights, padding=1)
        below = self.config.admit == "confident"
        return likelihood.selected_cross_entropy(
            hidden, table, targets, weights, decision.threshold, below=below, padding=1
        )

    def _by_shallow_steps(self, rows: slice, offer: Offer, served: Served, total: int) -> Iterator[Tensor]:
        if not len(offer.places):
            return
        hidden, targets = self._shallow_hidden(rows, offer, served), self.items(offer.places)
        if self.config.shallow_negatives is None:
            weights = hidden.new_full((len(targets),), 1 / total)
            yield likelihood.cross_entropy_sum(hidden, self.model.items.weight, targets, weights, padding=1)
        else:
            table, negatives = self.model.items.weight, self.config.shallow_negatives
            mean = likelihood.drawn_cross_entropy(hidden, table, targets, negatives, self._drawn, padding=1)
            yield mean * (len(targets) / total)

    def _shallow_hidden(self, rows: slice, shallow: Offer, served: Served) -> Tensor:
        """Hidden states [T, D] before transitions, whose gradient reaches what `filtered` names and no further."""
        if served.residual is None:
            return served.before(shallow, self.ends[rows], served.states)
        last = self.model.embed(self.encoder.items[torch.from_numpy(shallow.places - 1).to(self.encoder.device)])
        stream = served.before(shallow, self.ends[rows], served.residual)
        along = F.pad(last - last.detach(), (0, stream.shape[1] - last.shape[1]))  # zeros that carry the gradient
        return self.model.finish(stream + along, branch_learns=self.config.filtered == "mlp")

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        for weight in self._moving:
            if weight.grad is not None and weight.grad.is_sparse:  # of the embedding alone; optimizers want it dense
                weight.grad = weight.grad.to_dense()
        for weight, start, importance in zip(self._moving, self._start, self._fisher, strict=False):
            if weight.grad is None:  # a shallow step does not reach it
                weight.grad = torch.zeros_like(weight)
            # of fisher_alpha * sum_i F_i (w_i - w0_i)^2
            weight.grad.addcmul_(importance, weight.detach() - start, value=2 * self.config.fisher_alpha)
        self.optimizer.step()

    def _fisher_diagonal(self) -> list[Tensor]:
        count = self.config.fisher_samples
        squares = self.shared.fisher(count) if self.shared else diagonal(self.model, self.encoder, count)
        return [
            squares[name] for name, weight in self.model.named_parameters() if any(weight is m for m in self._moving)
        ]

    def _go_back(self) -> None:
        """Episodic adaptation: the next batch starts from the checkpoint's weights, with a fresh optimizer."""
        with torch.no_grad():
            for weight, start in zip(self._moving, self._start, strict=True):
                weight.copy_(start)
        self.optimizer = _optimizer(self.config, self._moving)

    def _before(self, rows: slice, offer: Offer) -> Tensor:
        """Hidden states before offered transitions: [T, D]."""
        if not len(offer.places):
            return self.model.item_vectors.new_empty(0, self.model.item_vectors.shape[1])
        return self.encoder.hidden(self.model, self.starts[rows][offer.owners], offer.places)

    def _learn_entropies(self, rows: slice, decision: Decision) -> bool:
        """Learn the weighted mean of the Top-K entropies of the admitted samples. If K is small, only K scores carry
        gradient. Returns True: there is an admitted sample."""
        chosen = decision.admitted.nonzero()[:, 0]
        taught = places(rows, chosen)
        self.learned.passes += len(taught)
        self.learned.outputs += len(taught)
        self.learned.tokens += int((self.ends[taught] - self.starts[taught]).sum())
        weights = None if decision.weights is None else decision.weights[chosen]
        with self._dropout():
            hidden = self.hidden(taught)
        vectors = self.model.item_vectors
        top_k = effective_top_k(self.config.top_k, vectors.shape[0])
        if top_k * GATHERING_COSTS < vectors.shape[0]:
            with torch.no_grad():
                top_items = scoring.scan(hidden, vectors, None, top_k).top_items
            assert top_items is not None
            top_scores = (vectors[top_items] @ hidden[:, :, None])[:, :, 0]
        else:
            top_scores = (hidden @ vectors.T).topk(top_k).values
        entropies = topk_entropy(top_scores)
        self._step((entropies if weights is None else entropies * weights).mean())
        return True


def _optimizer(config: AdaptConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
