"""The gate in front of a backward pass (EATA: Niu et al., ICML 2022; ETA-Rec: the report).

Symbols: B samples of a batch, K of Top-K, V items without the padding id, D width, H a Top-K entropy in nats,
E0 the entropy threshold, m the moving average of softmaxes: [V].

`criterion: loss` is ours: in the place of H stands the loss of what a sample would learn, as it was when that was
served: it costs no pass. A large one tells of a transition that the model takes for noise.

The functions are pure; `Gate` holds what lives from batch to batch, E0 and m. A whole batch is judged against the m
that stood before it, so that decisions do not depend on the order inside a batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.config import AdaptConfig

AVERAGE_KEEPS = 0.9  # m <- 0.9 m + 0.1 mean(p), EATA section 3.1


def topk_entropy(top_scores: Tensor) -> Tensor:
    """Entropy of the softmax over the K largest scores, in nats, between 0 and ln K. [B, K] -> [B]."""
    log_p = top_scores.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def restricted(average: Tensor, top_k: int) -> Tensor:
    """m with all but its own K largest entries set to 0, scaled to length one: [V] -> [V]."""
    top = average.topk(top_k)
    kept = torch.zeros_like(average)
    kept[top.indices] = top.values / top.values.norm()
    return kept


def topk_cosine(top_scores: Tensor, top_items: Tensor, direction: Tensor) -> Tensor:
    """Cosine between p restricted to its Top-K and `direction`, m restricted to its own: [B].

    The cosine does not change with p's scale, so that the softmax over the Top-K serves: nothing over V is needed.
    """
    p = top_scores.softmax(-1)
    return (p * direction[top_items]).sum(-1) / p.norm(dim=-1)


def entropy_threshold(entropies: Tensor, quantile: float) -> float:
    """E0: the quantile (linear interpolation) of a batch of entropies."""
    return float(np.quantile(entropies.double().cpu().numpy(), quantile))


def reliable(entropies: Tensor, threshold: float, admit: str) -> Tensor:
    """H < E0, the published rule; `uncertain` turns it around."""
    return entropies < threshold if admit == "confident" else entropies >= threshold


def sample_weight(entropies: Tensor, threshold: float) -> Tensor:
    """exp(E0 - H), EATA section 3.1; a constant with respect to the gradient."""
    return (threshold - entropies).exp()


@dataclass(frozen=True)
class Decision:
    """What the gate made of a batch. The masks are bool[B]; each filtered sample is in exactly one of them."""

    admitted: Tensor
    by_seen: Tensor
    by_entropy: Tensor
    by_redundancy: Tensor
    by_chance: Tensor
    by_loss: Tensor
    weights: Tensor | None  # [B], None where every weight is 1

    @classmethod
    def nobody(cls, seen: Tensor) -> "Decision":
        """On a batch in which every sample was `seen`."""
        none = torch.zeros_like(seen)
        return cls(none, seen, none, none, none, none, None)


class Gate:
    """Judges batch after batch of a stream. One instance per measurement."""

    def __init__(self, config: AdaptConfig, seed: int):
        self.config = config
        self.threshold = config.entropy_threshold  # E0
        self.average: Tensor | None = None  # m
        self._direction: Tensor | None = None
        self._chance = np.random.default_rng(seed)

    def scores_needed(self, n_items: int) -> int:
        """K as the scan of a batch's scores has to deliver it; 0 if the gate looks at no Top-K."""
        if self.config.gate != "eta" or self._all_items(n_items):
            return 0
        return min(self.config.top_k or 0, n_items)

    def passes_by(self, seen: npt.NDArray[np.bool_]) -> bool:
        """Whether a batch needs no look: none of it may be admitted, and it would leave E0 and m as they are."""
        config = self.config
        by_asked = config.criterion == "loss" or config.calibrate == "each_batch"
        settled = self.threshold is not None or by_asked
        return config.gate == "eta" and config.average_over == "admitted" and settled and bool(seen.all())

    def judge(
        self, hidden: Tensor, vectors: Tensor, scan: scoring.Scan, seen: Tensor, losses: Tensor | None = None
    ) -> Decision:
        """hidden: [B, D]; vectors: [V, D]; scan with Top-K as `scores_needed` says; seen: bool[B], never admitted.

        losses: [B], for `criterion: loss`, of what each sample would learn; those of `seen` count for nothing.
        """
        if self.config.gate == "eta":
            return self._judge(hidden, vectors, scan, seen, losses)
        none = torch.zeros_like(seen)
        unlucky = none
        if self.config.gate == "random":
            drawn = torch.from_numpy(self._chance.random(seen.shape[0])).to(seen.device)
            unlucky = ~seen & (drawn < self.config.random_rate)
        return Decision(~seen & ~unlucky, seen, none, none, unlucky, none, None)

    def _judge(
        self, hidden: Tensor, vectors: Tensor, scan: scoring.Scan, seen: Tensor, losses: Tensor | None
    ) -> Decision:
        entropies, cosines = self._look(hidden, vectors, scan)
        values = entropies if losses is None else losses
        threshold = self._threshold(values, ~seen)
        passed = reliable(values, threshold, self.config.admit)
        new = torch.ones_like(passed) if cosines is None else cosines < self.config.cosine_threshold
        admitted = self._at_least(passed & new & ~seen, values, seen)
        self._update_average(hidden, vectors, admitted)
        none, unreliable = torch.zeros_like(seen), ~admitted & ~seen & ~passed
        return Decision(
            admitted=admitted,
            by_seen=seen,
            by_entropy=unreliable if losses is None else none,
            by_redundancy=~admitted & ~seen & passed,
            by_chance=none,
            by_loss=none if losses is None else unreliable,
            weights=sample_weight(values, threshold) if self.config.weighting == "entropy" else None,
        )

    def _threshold(self, values: Tensor, asked: Tensor) -> float:
        """E0 of a batch. A sample that is not asked has no loss; its entropy counts in the stream's first batch."""
        each = self.config.calibrate == "each_batch" and self.config.entropy_threshold is None
        if self.threshold is None or each:
            pool = values[asked] if each or self.config.criterion == "loss" else values
            if not len(pool):
                return 0.0  # nobody is asked
            self.threshold = entropy_threshold(pool, self.config.entropy_quantile)
        return self.threshold

    def _all_items(self, n_items: int) -> bool:
        return self.config.top_k is None or self.config.top_k >= n_items

    def _look(self, hidden: Tensor, vectors: Tensor, scan: scoring.Scan) -> tuple[Tensor, Tensor | None]:
        """Entropies and, once there is an m, cosines of a batch."""
        if self._all_items(vectors.shape[0]):
            spread = scoring.spread(hidden, vectors, self._direction)
            return spread.entropy, None if self._direction is None else spread.along / spread.norm
        assert scan.top_scores is not None and scan.top_items is not None
        entropies = topk_entropy(scan.top_scores)
        if self._direction is None:
            return entropies, None
        return entropies, topk_cosine(scan.top_scores, scan.top_items, self._direction)

    def _at_least(self, admitted: Tensor, entropies: Tensor, seen: Tensor) -> Tensor:
        """Admits the most reliable of the others where fewer than `min_admitted` of the batch passed."""
        least = int(np.ceil(self.config.min_admitted * admitted.shape[0]))
        missing = least - int(admitted.sum()) if least else 0
        if missing <= 0:
            return admitted
        order = entropies if self.config.admit == "confident" else -entropies
        others = torch.where(admitted | seen, torch.inf, order)
        chosen = others.argsort(stable=True)[: min(missing, int((~admitted & ~seen).sum()))]
        return admitted.index_fill(0, chosen, True)

    def _update_average(self, hidden: Tensor, vectors: Tensor, admitted: Tensor) -> None:
        members = hidden if self.config.average_over == "all" else hidden[admitted]
        if not members.shape[0]:
            return
        mean = scoring.mean_softmax(members, vectors)
        self.average = mean if self.average is None else AVERAGE_KEEPS * self.average + (1 - AVERAGE_KEEPS) * mean
        top_k = vectors.shape[0] if self._all_items(vectors.shape[0]) else self.config.top_k
        self._direction = restricted(self.average, top_k or vectors.shape[0])
