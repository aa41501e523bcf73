"""The gate in front of a backward pass (EATA: Niu et al., ICML 2022; ETA-Rec: the report).

Symbols: B samples of a batch, K of Top-K, V items without the padding id, D width, H a Top-K entropy in nats,
E0 the entropy threshold, m the moving average of softmaxes: [V].

`criterion: loss` is ours: H is replaced by the loss at which the transition to learn was served, which costs no further
pass. A large loss marks a transition that the model takes for noise.

The functions are pure; `Gate` holds what lives from batch to batch, E0 and m. A whole batch is judged against the m
that stood before it, so decisions do not depend on the order inside a batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.config import AdaptConfig, Reason

AVERAGE_KEEPS = 0.9  # m <- 0.9 m + 0.1 mean(p), EATA section 3.1
CLAMP = 2.0  # largest |E0 - H| of `weighting: clamped`


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


def clamped_weight(entropies: Tensor, threshold: float, admitted: Tensor) -> Tensor:
    """exp(E0 - H) with the exponent between -2 and 2, divided by the mean over admitted samples: ETA-Rec's code."""
    weights = (threshold - entropies).clamp(-CLAMP, CLAMP).exp()
    return weights / weights[admitted].mean() if bool(admitted.any()) else weights


def effective_top_k(top_k: int | None, n_items: int) -> int:
    """K for a catalogue of `n_items` items: null, and any K beyond the catalogue, mean all items."""
    return n_items if top_k is None else min(top_k, n_items)


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch as a gate sees it.

    hidden: [B, D], hidden states of the samples' inputs; item_vectors: [V, D], the model's own weights, which the next
    step changes; scores are the products of both.
    top_scores, top_items: [B, K], the K largest scores in descending order and their rows of item_vectors; None if
    `Gate.scores_needed` is 0.
    losses: [B], cross-entropy in nats of what each sample would learn, at which it was served; NaN where that is
    nothing; None unless the gate `needs_losses`.
    nothing_to_learn: bool[B], samples that offer no transition, such as those whose transition was seen in training.
    They are never admitted, whatever the gate says.
    """

    hidden: Tensor
    item_vectors: Tensor
    top_scores: Tensor | None
    top_items: Tensor | None
    losses: Tensor | None
    nothing_to_learn: Tensor


@dataclass(frozen=True)
class Decision:
    """The gate's decision on the samples of a batch."""

    reasons: Tensor  # int8[B], values of Reason
    weights: Tensor | None = None  # [B], None where every weight is 1
    threshold: float | None = None  # E0 by which the batch was decided, if the gate has one

    @property
    def admitted(self) -> Tensor:
        """bool[B]"""
        return self.reasons == Reason.ADMITTED


def decide(nothing_to_learn: Tensor, skipped: Tensor, reason: Reason) -> Tensor:
    """Reasons int8[B] of a gate with one test. nothing_to_learn, skipped: bool[B]; the first overrules the second."""
    reasons = torch.full_like(skipped, Reason.ADMITTED, dtype=torch.int8).masked_fill_(skipped, reason)
    return reasons.masked_fill_(nothing_to_learn, Reason.NOTHING_TO_LEARN)


class Gate:
    """Judges batch after batch of a stream. One instance per measurement.

    A criterion is a value of `AdaptConfig.criterion`, a Reason of the same name and an entry in `_values`.
    """

    def __init__(self, config: AdaptConfig, seed: int):
        self.config = config
        self.threshold = config.entropy_threshold  # E0
        self.average: Tensor | None = None  # m
        self._direction: Tensor | None = None
        self._chance = np.random.default_rng(seed)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state for later batches: tensors by name, which nothing changes in place, and values for JSON."""
        tensors = {} if self.average is None else {"average": self.average}
        return tensors, {"threshold": self.threshold, "chance": self._chance.bit_generator.state}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to a snapshot of a gate with the same configuration."""
        self.threshold, self._chance.bit_generator.state = values["threshold"], values["chance"]
        self.average = tensors.get("average")
        self._set_direction()

    def _set_direction(self) -> None:
        if self.average is None:
            self._direction = None
        else:
            self._direction = restricted(self.average, effective_top_k(self.config.top_k, self.average.shape[0]))

    @property
    def needs_losses(self) -> bool:
        """Whether the gate looks at the losses of what the samples would learn."""
        return self.config.gate == "eta" and self.config.criterion == "loss" and self.config.target == "weights"

    @property
    def _looks_at_scores(self) -> bool:
        """Whether entropies or cosines decide anything."""
        by_loss = self.config.criterion == "loss" and self.config.cosine_threshold is None
        return self.config.gate == "eta" and not (by_loss and self.config.target == "weights")

    def scores_needed(self, n_items: int) -> int:
        """K as the scan of a batch's scores has to deliver it; 0 if the gate looks at no Top-K."""
        top_k = effective_top_k(self.config.top_k, n_items)
        return top_k if self._looks_at_scores and top_k < n_items else 0

    def ignores(self, nothing_to_learn: npt.NDArray[np.bool_]) -> bool:
        """Whether the scores of a batch change nothing: none of it may be admitted, and E0 and m stay as they are."""
        config = self.config
        of_learnable = config.criterion == "loss" or config.calibrate == "each_batch"
        settled = self.threshold is not None or of_learnable
        return config.gate == "eta" and config.average_over == "admitted" and settled and bool(nothing_to_learn.all())

    def judge(self, batch: Batch) -> Decision:
        """Decide on a batch, with the Top-K that `scores_needed` asks for."""
        if self.config.gate == "eta":
            return self._judge(batch)
        skipped = torch.zeros_like(batch.nothing_to_learn)
        if self.config.gate == "random":
            drawn = torch.from_numpy(self._chance.random(skipped.shape[0])).to(skipped.device)
            skipped = drawn < self.config.random_rate
        return Decision(decide(batch.nothing_to_learn, skipped, Reason.CHANCE))

    def _judge(self, batch: Batch) -> Decision:
        nothing_to_learn = batch.nothing_to_learn
        entropies, cosines = self._look(batch) if self._looks_at_scores else (None, None)
        values = self._values(entropies, batch.losses)
        threshold = self._threshold(values, ~nothing_to_learn)
        reasons = decide(
            nothing_to_learn,
            ~reliable(values, threshold, self.config.admit),
            Reason[self.config.criterion.upper()],
        )
        order = values if self.config.admit == "confident" else -values
        if self.config.refill == "each_test":
            reasons = self._redundant_too(self._at_least(reasons, order), cosines)
        else:
            reasons = self._at_least(self._without_redundant(reasons, cosines), order)
        admitted = reasons == Reason.ADMITTED
        self._update_average(batch, admitted)
        return Decision(reasons, self._weights(values, threshold, admitted), threshold)

    def _without_redundant(self, reasons: Tensor, cosines: Tensor | None) -> Tensor:
        if cosines is None or self.config.cosine_threshold is None:
            return reasons
        redundant = (reasons == Reason.ADMITTED) & (cosines >= self.config.cosine_threshold)
        return reasons.masked_fill(redundant, Reason.REDUNDANCY)

    def _redundant_too(self, reasons: Tensor, cosines: Tensor | None) -> Tensor:
        """The test of redundancy as in ETA-Rec's code: left out where no more than `min_admitted` are reliable, and
        filled up with the reliable samples of the lowest cosines."""
        if cosines is None or int((reasons == Reason.ADMITTED).sum()) <= self._least(reasons):
            return reasons
        unreliable = reasons != Reason.ADMITTED
        return self._at_least(self._without_redundant(reasons, cosines), cosines.masked_fill(unreliable, torch.inf))

    def _weights(self, values: Tensor, threshold: float, admitted: Tensor) -> Tensor | None:
        match self.config.weighting:
            case "entropy":
                return sample_weight(values, threshold)
            case "clamped":
                return clamped_weight(values, threshold, admitted)
            case "none":
                return None

    def _values(self, entropies: Tensor | None, losses: Tensor | None) -> Tensor:
        """The criterion's value of each sample, which must lie below E0: [B]."""
        values = {"entropy": entropies, "loss": losses}[self.config.criterion]
        assert values is not None
        return values

    def _threshold(self, values: Tensor, learnable: Tensor) -> float:
        """E0 of a batch. A sample with nothing to learn has no loss; its entropy counts in the stream's first batch."""
        each = self.config.calibrate == "each_batch" and self.config.entropy_threshold is None
        if self.threshold is None or each:
            pool = values[learnable] if each or self.config.criterion == "loss" else values
            if not len(pool):
                return 0.0  # the gate decides on nobody
            self.threshold = entropy_threshold(pool, self.config.entropy_quantile)
        return self.threshold

    def _look(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Entropies and, once there is an m, cosines of a batch."""
        vectors = batch.item_vectors
        if effective_top_k(self.config.top_k, vectors.shape[0]) == vectors.shape[0]:
            spread = scoring.spread(batch.hidden, vectors, self._direction)
            return spread.entropy, None if self._direction is None else spread.along / spread.norm
        assert batch.top_scores is not None and batch.top_items is not None
        entropies = topk_entropy(batch.top_scores)
        if self._direction is None:
            return entropies, None
        return entropies, topk_cosine(batch.top_scores, batch.top_items, self._direction)

    def _least(self, reasons: Tensor) -> int:
        """The smallest number of samples to admit."""
        return int(np.ceil(self.config.min_admitted * reasons.shape[0]))

    def _at_least(self, reasons: Tensor, order: Tensor) -> Tensor:
        """Admits the first others in ascending order where fewer than `min_admitted` of the batch passed."""
        least = self._least(reasons)
        missing = least - int((reasons == Reason.ADMITTED).sum()) if least else 0
        if missing <= 0:
            return reasons
        refillable = reasons > Reason.NOTHING_TO_LEARN
        others = torch.where(refillable, order, torch.inf)
        chosen = others.argsort(stable=True)[: min(missing, int(refillable.sum()))]
        return reasons.index_fill(0, chosen, Reason.ADMITTED)

    def _update_average(self, batch: Batch, admitted: Tensor) -> None:
        members = batch.hidden if self.config.average_over == "all" else batch.hidden[admitted]
        if self.config.cosine_threshold is None or not members.shape[0]:
            return
        mean = scoring.mean_softmax(members, batch.item_vectors)
        self.average = mean if self.average is None else AVERAGE_KEEPS * self.average + (1 - AVERAGE_KEEPS) * mean
        self._set_direction()
