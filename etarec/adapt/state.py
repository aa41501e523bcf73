"""Target `state`: the fast weights of the TTT layer take their steps for admitted samples (arXiv 2407.04620)."""

import numpy as np
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.none import NoAdaptation, places
from etarec.adapt.shared_passes import SERVED_AT_ONCE
from etarec.data import Stream
from etarec.gate import Decision

MAX_SCORES = 2**22  # Top-K scores held for the batches whose passes run at once


class State(NoAdaptation):
    """Serves admitted samples through the inner loop, the others with the learned initial fast weights.

    The gate looks at the scores of the pass without the inner loop. Nothing outlives a sample, so the passes of many
    batches run at once and only the gate takes the batches one after another. With shared passes a trial computes the
    gate alone, and the inner loop of admitted samples only if their weights scale its rate.
    """

    def prepare(self, stream: Stream) -> None:
        by_entropy = self.config.gate == "eta" and self.config.weighting == "entropy"
        weighted = by_entropy or self.config.own_gate is not None
        self.ranks = None if self.shared is None or weighted else self.shared.ranks
        self._ahead: dict[int, tuple[Tensor, Decision]] = {}  # by a batch's first place
        if self.shared is not None:
            self.shared.initial_hidden(slice(0))

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        if rows.start not in self._ahead:
            size, at_once = rows.stop - rows.start, min(SERVED_AT_ONCE, MAX_SCORES // max(1, self.scores_needed()))
            end = min(rows.start + max(1, at_once // size) * size, len(self.ends))
            self._serve_all([slice(start, min(start + size, end)) for start in range(rows.start, end, size)])
        return self._ahead.pop(rows.start)

    def _serve_all(self, batches: list[slice]) -> None:
        start, whole = batches[0].start, slice(batches[0].start, batches[-1].stop)
        with torch.no_grad(), self.clock("forward"):
            hidden, scan = self._pass_without_inner_loop(whole)
        assert scan.ranks is not None
        with torch.no_grad(), self.clock("gate"):
            parts = [slice(rows.start - start, rows.stop - start) for rows in batches]
            nothing_to_learn = np.zeros(len(hidden), np.bool_)
            decisions = [self.judge(hidden[part], scan.of(part), nothing_to_learn[part]) for part in parts]
        with torch.no_grad(), self.clock("adapt"):
            ranks = self._adapted(whole, hidden, scan.ranks, decisions)
        self._ahead = {
            rows.start: (ranks[part], decision) for rows, part, decision in zip(batches, parts, decisions, strict=True)
        }

    def _pass_without_inner_loop(self, rows: slice) -> tuple[Tensor, scoring.Scan]:
        top_k = self.scores_needed()
        if self.shared is None:
            hidden = self.hidden(rows, inner_loop=False)
            return hidden, self.scan(rows, hidden, top_k)
        hidden, ranks = self.shared.initial_hidden(rows), self.shared.initial_ranks[rows]
        scan = scoring.Scan(ranks, None, None)
        if top_k:
            scan = scoring.scan(hidden, self.model.item_vectors, None, top_k)._replace(ranks=ranks)
        return hidden, scan

    def _adapted(self, rows: slice, initial: Tensor, ranks: Tensor, decisions: list[Decision]) -> Tensor:
        """Ranks int[n]. initial: [n, D], the hidden states without the inner loop."""
        admitted = torch.cat([decision.admitted for decision in decisions])
        count, lengths = admitted.cpu().numpy(), self.ends[rows] - self.starts[rows]
        self.learned.passes += int(count.sum())
        self.learned.tokens += int(lengths[count].sum())
        self.learned.every_tokens += int(lengths.sum())
        if self.ranks is not None:
            return torch.where(admitted, self.ranks[rows], ranks)
        chosen = admitted.nonzero()[:, 0]
        if not len(chosen):
            self.show(initial)
            return ranks
        weights = [decision.weights for decision in decisions if decision.weights is not None]
        hidden = self.hidden(places(rows, chosen), torch.cat(weights)[chosen] if weights else None)
        self.show(initial.index_copy(0, chosen, hidden))
        adapted = scoring.scan(hidden, self.model.item_vectors, self.targets[rows][chosen], top_k=0).ranks
        assert adapted is not None
        return ranks.index_copy(0, chosen, adapted.to(ranks.dtype))
