"""Adaptation at test time: what is learned, and the gate that decides from which samples.

Sources: EATA (Niu et al., ICML 2022), Tent (Wang et al., ICLR 2021), TTT (arXiv 2407.04620); the gate: ETA-Rec (the
report).
"""

import dataclasses
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from etarec.config.values import STRICT, ClassPath, Count, NonNegative, Options, Positive, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LearningConfig:
    """The way in which the model adapts: the weights that a backward pass updates, its loss and its optimizer.

    Sources: EATA (Niu et al., ICML 2022), Tent (Wang et al., ICLR 2021), TTT (arXiv 2407.04620).
    """

    target: Literal["weights", "state", "none"] = Field(default="weights", description="what adaptation updates")
    objective: Literal["next_item", "entropy"] = Field(
        default="next_item", description="loss that target `weights` learns"
    )
    parameters: Literal["projections", "body", "all"] = Field(
        default="all", description="weights that target `weights` updates"
    )
    optimizer: Literal["adam", "sgd"] = Field(default="adam", description="optimizer of target `weights`")
    learning_rate: Positive = Field(default=1e-3, description="learning rate of the optimizer")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="momentum of `sgd`, first beta of `adam`"
    )
    batch_size: Count = Field(default=256, description="samples served, gated and adapted together")
    serve: Literal["before", "after"] = Field(
        default="before", description="whether a batch is ranked before or after it adapts the model"
    )
    feedback: Literal["immediate", "next_request"] = Field(
        default="immediate",
        description="`next_item` learns a target once its batch is ranked, or when its user comes back",
    )
    new_transitions_only: bool = Field(
        default=True, description="`next_item` does not learn transitions of the training split"
    )
    transitions: Literal["last", "pending"] = Field(
        default="last",
        description="`next_item` learns a sample's newest transition, or all of its user's not learned before",
    )
    filtered: Literal["nothing", "output", "residual", "mlp"] = Field(
        default="nothing",
        description="weights that a skipped sample's newest transition updates without a pass over its sequence: none, "
        "the item vectors at the output, also the last item's embedding, also the last feed-forward layer",
    )
    shallow_negatives: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="items drawn per step to estimate the softmax of shallow steps (`filtered`); null: all items",
    )
    fisher_alpha: NonNegative = Field(
        default=0.0, description="strength of EATA's penalty on moving away from the checkpoint; 0: no penalty"
    )
    fisher_samples: Count = Field(
        default=512, description="training samples from which the penalty's Fisher diagonal is computed"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="dropout in the passes that target `weights` learns by"
    )
    reset: Literal["never", "batch"] = Field(
        default="never", description="`batch`: each batch starts from the checkpoint's weights (episodic adaptation)"
    )

    @property
    def learns_next_item(self) -> bool:
        """Whether adapting learns transitions: target `weights` with objective `next_item`."""
        return self.target == "weights" and self.objective == "next_item"


class Reason(IntEnum):
    """The reason of a gate's decision. A value of `AdaptConfig.criterion` is a reason's name in lower case."""

    NOT_ASKED = -1  # target `none` adapts on nothing, so there is no gate
    ADMITTED = 0
    NOTHING_TO_LEARN = 1
    ENTROPY = 2
    REDUNDANCY = 3
    CHANCE = 4
    LOSS = 5
    OWN = 6  # decided by a gate of the user's own

    @property
    def column(self) -> str:
        """The result column that holds the share of the samples skipped for this reason."""
        return "filtered_by_seen" if self is Reason.NOTHING_TO_LEARN else f"filtered_by_{self.name.lower()}"


SKIPPED = tuple(reason for reason in Reason if reason > Reason.ADMITTED)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdaptConfig(LearningConfig):
    """A whole configuration of adaptation: `LearningConfig` and the gate in front of it. Every field can be searched.

    Source of the gate: ETA-Rec (the report).
    """

    gate: Literal["eta", "open", "random"] | ClassPath = Field(
        default="eta",
        description="eta: the two tests of ETA-Rec; open: admit everything; random: skip at random; or a gate of your "
        "own, package.module:Class: docs/own-model.md",
    )
    gate_options: Options = dataclasses.field(default_factory=dict, hash=False)
    criterion: Literal["entropy", "loss"] = Field(
        default="entropy",
        description="value compared with E0: the Top-K entropy, or the loss at which the transition was served",
    )
    correction: Literal["none", "selection"] = Field(
        default="none",
        description="`selection`: with `criterion: loss`, learn the likelihood among the items that would be admitted",
    )
    calibrate: Literal["first_batch", "each_batch"] = Field(
        default="first_batch", description="E0 is a quantile of the first batch of the stream, or of each batch itself"
    )
    top_k: Count | None = Field(
        default=50, description="K: number of the largest scores that entropy and cosine use; null: all items"
    )
    entropy_quantile: Share = Field(default=0.5, description="quantile of a batch's entropies (or losses) that is E0")
    entropy_threshold: NonNegative | None = Field(default=None, description="fixed E0 in nats, instead of the quantile")
    cosine_threshold: Share | None = Field(
        default=0.3,
        description="epsilon: a sample whose cosine to the moving average reaches it is redundant; null: no such test",
    )
    admit: Literal["confident", "uncertain"] = Field(
        default="confident", description="admit values below E0, or values of at least E0"
    )
    average_over: Literal["admitted", "all"] = Field(
        default="admitted", description="samples that enter the moving average"
    )
    weighting: Literal["entropy", "clamped", "none"] = Field(
        default="entropy",
        description="`entropy`: weight of an admitted sample is exp(E0 - H); `clamped`: with E0 - H clamped to +-2, "
        "divided by the mean over the admitted samples",
    )
    min_admitted: Share = Field(default=0.0, description="smallest share of a batch to admit")
    refill: Literal["batch", "each_test"] = Field(
        default="batch",
        description="how `min_admitted` is kept: after both tests by the lowest values of all others (`uncertain`: the "
        "highest), or after each test by those nearest to passing it",
    )
    random_rate: Share = Field(default=0.5, description="gate `random`: share of the samples to skip")

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        learns = self.target == "none" or self.learns_next_item
        if self.criterion == "loss" and not learns:
            raise ValueError("criterion: loss needs target: weights with objective: next_item")
        if self.correction == "selection" and self.criterion != "loss":
            raise ValueError("correction: selection needs criterion: loss")
        if self.filtered != "nothing" and not (learns and self.parameters == "all"):
            raise ValueError(
                f"filtered: {self.filtered} needs target: weights with objective: next_item and parameters: all; a "
                "skipped sample teaches item vectors"
            )
        if self.serve == "after" and self.objective == "next_item" and self.feedback == "immediate":
            raise ValueError(
                "serve: after with objective: next_item needs feedback: next_request; a sample would be ranked by a "
                "model that has learned its target"
            )
        if self.reset == "batch" and self.serve == "before":
            raise ValueError("reset: batch needs serve: after, else no sample is ranked by the adapted model")
        return self

    @property
    def own_gate(self) -> str | None:
        """The class path of a gate of the user's own."""
        return self.gate if ":" in self.gate else None

    @classmethod
    def published(cls, top_k: int = 50, **fixed: Any) -> Self:
        """The gate of the ETA-Rec report with K = `top_k`, on the adaptation that `fixed` describes."""
        gate = {
            "gate": "eta",
            "gate_options": {},
            "criterion": "entropy",
            "correction": "none",
            "calibrate": "first_batch",
            "top_k": top_k,
            "entropy_quantile": 0.5,
            "cosine_threshold": 0.3,
            "admit": "confident",
        }
        return cls(**{**fixed, **gate})


# Fields of the gate that admit more samples as they grow; with `admit: uncertain` a larger quantile admits fewer.
OPENING_FIELDS = ("entropy_quantile", "cosine_threshold")

# The fields that decide which samples are admitted; baselines replace them and keep the others.
GATE_FIELDS = frozenset(f.name for f in dataclasses.fields(AdaptConfig)) - {
    f.name for f in dataclasses.fields(LearningConfig)
}
