"""Target `weights`: the model's own parameters take one optimizer step per batch over its admitted samples.

Sources: Tent (Wang et al., ICLR 2021), EATA (Niu et al., ICML 2022) and ETA-Rec (the report).

Symbols: D width, T transitions.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec.adapt import losses
from etarec.adapt.dropout import LearningDropout
from etarec.adapt.fisher import diagonal
from etarec.adapt.memory import Snapshot, generator_state
from etarec.adapt.moving_weights import MovingWeights
from etarec.adapt.none import places
from etarec.adapt.ranking import Ranking
from etarec.adapt.served import Served
from etarec.adapt.transitions import NO_TRANSITIONS, Offer
from etarec.data import Stream
from etarec.gate import Decision, reliable


class Weights(Ranking):
    """One optimizer step per batch over its admitted samples; the change lasts for the rest of the stream."""

    def prepare(self, stream: Stream) -> None:
        super().prepare(stream)
        self.moving = MovingWeights(self.model, self.config, self._fisher)
        dropped, self._drawn = (np.random.default_rng([self.seed, n]) for n in range(2))
        self._dropout = LearningDropout(self.model, self.config.dropout, dropped)

    def _fisher(self) -> Mapping[str, Tensor]:
        count = self.config.fisher_samples
        return self.shared.fisher(count) if self.shared else diagonal(self.model, self.encoder, count)

    def snapshot(self) -> Snapshot:
        ranking = super().snapshot()
        drawn = [generator_state(generator) for generator in self._generators]
        return Snapshot(ranking.tensors | self.moving.tensors(), ranking.values | {"drawn": drawn})

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self.moving.restore(snapshot)
        for generator, state in zip(self._generators, snapshot.values["drawn"], strict=True):
            generator.bit_generator.state = state

    @property
    def _generators(self) -> list[np.random.Generator]:
        return [self._dropout.generator, self._drawn]

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if self.config.serve == "before":
            self.observed.settle(rows)
        offer = self.observed.offer(rows)
        served, ranks, decision = self.rank(rows, offer)
        self._count_every(rows, offer)
        self.show(served.hidden)
        ranks = self._learn(rows, offer, decision, served, ranks)
        self.observed.settle(rows)
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
            self.moving.go_back()
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
        parts = [*self._by_passes(rows, full, decision, total), *self._by_shallow_steps(rows, shallow, served, total)]
        self.observed.learned(full.places)
        self.observed.learned_shallowly(shallow.places)
        self.moving.step(sum(parts[1:], parts[0]))
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

    def _by_passes(self, rows: slice, offer: Offer, decision: Decision, total: int) -> Iterator[Tensor]:
        """Losses of transitions learned by passes over their sequences; their sum over `total` counts."""
        if not len(offer.places):
            return
        with self._dropout.on():
            hidden = self._before(rows, offer)
        weights = hidden.new_ones(len(offer.places))
        if decision.weights is not None:
            weights = decision.weights[torch.from_numpy(offer.owners).to(weights.device)]
        targets, repeated = self.items(offer.places), self.observed.took_shallow_step(offer.places)
        table = self.model.items.weight
        yield from losses.of_passes(self.config, table, hidden, targets, weights / total, repeated, decision.threshold)

    def _by_shallow_steps(self, rows: slice, offer: Offer, served: Served, total: int) -> Iterator[Tensor]:
        if not len(offer.places):
            return
        hidden, targets = self._shallow_hidden(rows, offer, served), self.items(offer.places)
        table, negatives = self.model.items.weight, self.config.shallow_negatives
        yield losses.of_shallow_steps(table, hidden, targets, total, negatives, self._drawn)

    def _shallow_hidden(self, rows: slice, shallow: Offer, served: Served) -> Tensor:
        """Hidden states [T, D] before transitions, whose gradient reaches what `filtered` names and no further."""
        if served.residual is None:
            return served.before(shallow, self.ends[rows], served.states)
        last = self.model.embed(self.encoder.items[torch.from_numpy(shallow.places - 1).to(self.encoder.device)])
        stream = served.before(shallow, self.ends[rows], served.residual)
        along = F.pad(last - last.detach(), (0, stream.shape[1] - last.shape[1]))  # zeros that carry the gradient
        return self.model.finish(stream + along, branch_learns=self.config.filtered == "mlp")

    def _learn_entropies(self, rows: slice, decision: Decision) -> bool:
        """Learn the weighted mean of the Top-K entropies of the admitted samples. Returns True: there is one."""
        chosen = decision.admitted.nonzero()[:, 0]
        taught = places(rows, chosen)
        self.learned.passes += len(taught)
        self.learned.outputs += len(taught)
        self.learned.tokens += int((self.ends[taught] - self.starts[taught]).sum())
        with self._dropout.on():
            hidden = self.hidden(taught)
        entropies = losses.topk_entropies(hidden, self.model.item_vectors, self.config.top_k)
        self.moving.step((entropies if decision.weights is None else entropies * decision.weights[chosen]).mean())
        return True
