"""Every hyperparameter's default, legal range and meaning, once.

A field's constraint is its legal range; what a search covers of it is a line of the YAML file. The classes are
frozen and validate on construction, so `dataclasses.replace` cannot make an illegal configuration.
"""

import dataclasses
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SeedInt = Annotated[int, Field(ge=0, lt=2**31)]

SplitName = Literal["train", "valid", "test"]
OrderName = Literal["user", "position", "time", "shuffled"]


class UserError(Exception):
    """Something that the user can put right; shown as one message without a traceback, exit status 2."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ColumnsConfig:
    """Names of the log's columns; RecBole's `name:type` headers match by name."""

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str | None = Field(default="timestamp", description="null keeps the file's order")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SimulationConfig:
    """The embedded data set; see etarec/simulate.py for what the numbers shape."""

    users: Count = Field(default=3000, description="number of users")
    items: Annotated[int, Field(ge=20)] = Field(default=1500, description="number of items before the k-core filter")
    seed: SeedInt = Field(default=0, description="seed of the generator")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataConfig:
    """Where the interactions come from, how they are split and in what order a stream serves them."""

    dataset: Literal["simulated"] | None = Field(default=None, description="the embedded data set, instead of a path")
    path: str | None = Field(default=None, description="interaction log: .inter, .csv, .tsv (also .gz) or .parquet")
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig, description="column names of the log")
    simulation: SimulationConfig = Field(default_factory=SimulationConfig, description="size and seed of `simulated`")
    k_core: Annotated[int, Field(ge=0)] = Field(
        default=5, description="fewest interactions per user and item; 0: no filter"
    )
    split: Literal["ratio", "leave_one_out"] = Field(default="ratio", description="how a user's samples are parted")
    valid_share: Share = Field(default=0.2, description="ratio split: share of a user's samples for validation")
    test_share: Share = Field(default=0.5, description="ratio split: share of a user's samples for test")
    rehearsal_share: Share | Literal["auto"] | None = Field(
        default="auto",
        description="search on so large a share of a user's samples before test, from a checkpoint trained without "
        "them; null: on the validation split, from the checkpoint itself; auto: half of the training share more than "
        "validation where target `weights` learns `next_item` and no checkpoint is given",
    )
    max_length: Count = Field(default=50, description="a sample's input is its user's last so many items")
    order: OrderName = Field(default="position", description="order in which a stream serves its samples")
    order_seed: SeedInt = Field(default=0, description="seed of the order `shuffled`")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (self.path is None):
            raise ValueError("give exactly one of `dataset: simulated` and `path: FILE`")
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share must leave a share for training")
        return self

    @model_validator(mode="after")
    def _rehearsal_holds_more_out(self) -> Self:
        if isinstance(self.rehearsal_share, float):
            if self.split != "ratio":
                raise ValueError("rehearsal_share needs split: ratio")
            if not self.valid_share < self.rehearsal_share < 1 - self.test_share:
                raise ValueError("rehearsal_share must lie between valid_share and 1 - test_share")
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ModelConfig:
    """Architecture; the defaults are TTT4Rec's (arXiv 2409.19142). A field that a model does not have is refused."""

    name: Literal["ttt4rec", "gru4rec", "sasrec", "bert4rec", "mamba4rec"] = Field(
        default="ttt4rec", description="architecture"
    )
    width: Count = Field(default=64, description="D, width of embeddings and hidden states")
    blocks: Count = Field(default=1, description="number of blocks")
    heads: Count = Field(default=4, description="H, heads; must divide the width, in TTT4Rec into an even head width F")
    mlp_width: Count = Field(
        default=256, description="width of the SwiGLU or feed-forward layer; in GRU4Rec of the recurrent state"
    )
    inner: Literal["mlp", "linear"] = Field(default="mlp", description="fast-weight model: TTT-MLP or TTT-Linear")
    mini_batch: Count = Field(default=8, description="M, tokens whose inner gradients share a starting point")
    inner_rate: Positive = Field(default=1.0, description="base learning rate of the inner loop")
    rope_base: Positive = Field(default=1000.0, description="base of the rotary position embedding")
    state_size: Count = Field(default=32, description="Mamba4Rec: N, states per channel")
    positions: Count = Field(
        default=50, description="SASRec, BERT4Rec: learned positions, data.max_length of them or more"
    )

    @model_validator(mode="after")
    def _fields_of_the_model(self) -> Self:
        own = {"name", "width", "blocks", *_MODEL_FIELDS[self.name]}
        for field in dataclasses.fields(self):
            if field.name not in own and getattr(self, field.name) != type(self).__dict__[field.name]:
                raise ValueError(f"{self.name} has no {field.name}; it has {', '.join(sorted(own))}")
        if self.name == "ttt4rec" and self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 x heads ({self.heads})")
        if "heads" in own and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads ({self.heads})")
        return self


_MODEL_FIELDS = {
    "ttt4rec": ("heads", "mlp_width", "inner", "mini_batch", "inner_rate", "rope_base"),
    "gru4rec": ("mlp_width",),
    "sasrec": ("heads", "mlp_width", "positions"),
    "bert4rec": ("heads", "mlp_width", "positions"),
    "mamba4rec": ("mlp_width", "state_size"),
}


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """Training of the checkpoint from which every trial starts."""

    epochs: Count = Field(default=300, description="at most so many passes over the training samples")
    patience: Count = Field(default=5, description="stop after so many epochs without a better validation NDCG@10")
    learning_rate: Positive = Field(default=1e-3, description="Adam's learning rate")
    batch_size: Count = Field(default=512, description="samples (prefixes) per optimizer step, about")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.2, description="dropout of the item embeddings")
    skip_rate: Share = Field(default=0.0, description="share of sequences trained with the inner loop switched off")
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="BERT4Rec: share of the items that are masked in training"
    )
    mask_last: Share = Field(
        default=0.5, description="BERT4Rec: share of sequences trained with a single mask at their end, as in serving"
    )
    window_stride: Count = Field(default=8, description="beyond max_length, so many samples share one input window")
    negatives: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="items drawn per step to estimate the softmax over all, for catalogues from some 200,000 items: "
        "8192, say; null: the full softmax",
    )
    seed: SeedInt = Field(default=0, description="seed of initial values, order and dropout")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LearningConfig:
    """What a backward pass updates, from what, and how.

    Sources: EATA (Niu et al., ICML 2022), Tent (Wang et al., ICLR 2021), TTT (arXiv 2407.04620).
    """

    target: Literal["weights", "state", "none"] = Field(default="weights", description="what a backward pass updates")
    objective: Literal["next_item", "entropy"] = Field(default="next_item", description="loss of target `weights`")
    parameters: Literal["projections", "body", "all"] = Field(default="all", description="which weights move")
    optimizer: Literal["adam", "sgd"] = Field(default="adam", description="optimizer of target `weights`")
    learning_rate: Positive = Field(default=1e-3, description="its learning rate")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="momentum of `sgd`, first beta of `adam`"
    )
    batch_size: Count = Field(default=256, description="samples served, gated and adapted together")
    serve: Literal["before", "after"] = Field(default="before", description="rank from scores before or after adapting")
    new_transitions_only: bool = Field(default=True, description="`next_item` skips transitions of the training split")
    transitions: Literal["last", "pending"] = Field(
        default="last", description="`next_item` learns from the input's last one, or from all not learned from so far"
    )
    fisher_alpha: NonNegative = Field(
        default=0.0, description="strength of EATA's penalty on leaving the checkpoint's weights; 0: none"
    )
    fisher_samples: Count = Field(
        default=512, description="training samples that the penalty's Fisher diagonal is from"
    )
    reset: Literal["never", "batch"] = Field(
        default="never", description="`batch`: every batch starts from the checkpoint's weights (episodic)"
    )


class Reason(IntEnum):
    """Why a sample was admitted or skipped. A value of `AdaptConfig.criterion` is a reason's name in lower case."""

    NOT_ASKED = -1  # target `none` adapts on nothing, so there is no gate
    ADMITTED = 0
    NOTHING_TO_LEARN = 1
    ENTROPY = 2
    REDUNDANCY = 3
    CHANCE = 4
    LOSS = 5

    @property
    def column(self) -> str:
        """The result column that holds the share of the samples skipped for this reason."""
        return "filtered_by_seen" if self is Reason.NOTHING_TO_LEARN else f"filtered_by_{self.name.lower()}"


SKIPPED = tuple(reason for reason in Reason if reason > Reason.ADMITTED)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AdaptConfig(LearningConfig):
    """A whole configuration of adaptation: `LearningConfig` and the gate in front of it. Every field can be searched.

    Source of the gate: ETA-Rec (the report).
    """

    gate: Literal["eta", "open", "random"] = Field(default="eta", description="ETA's two tests, none, or chance")
    criterion: Literal["entropy", "loss"] = Field(
        default="entropy",
        description="what must lie below E0: the Top-K entropy, or the loss at which what would be learned was served",
    )
    calibrate: Literal["first_batch", "each_batch"] = Field(
        default="first_batch", description="batch whose quantile is E0: the stream's first, or each batch its own"
    )
    top_k: Count | None = Field(
        default=50, description="K: scores that entropy and redundancy look at; null: all items"
    )
    entropy_quantile: Share = Field(default=0.5, description="quantile of a batch's entropies, or losses, that sets E0")
    entropy_threshold: NonNegative | None = Field(
        default=None, description="a fixed E0 in nats, instead of the quantile"
    )
    cosine_threshold: Share = Field(
        default=0.3, description="epsilon: largest cosine to the moving average that is new"
    )
    admit: Literal["confident", "uncertain"] = Field(
        default="confident", description="entropies below, or at least, E0"
    )
    average_over: Literal["admitted", "all"] = Field(default="admitted", description="samples in the moving average")
    weighting: Literal["entropy", "none"] = Field(
        default="entropy", description="weigh an admitted sample by exp(E0 - H)"
    )
    min_admitted: Share = Field(default=0.0, description="least share of a batch to admit, lowest entropies first")
    random_rate: Share = Field(default=0.5, description="gate `random`: share of samples to filter")

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        learns = self.target == "none" or (self.target == "weights" and self.objective == "next_item")
        if self.criterion == "loss" and not learns:
            raise ValueError("criterion: loss needs target: weights with objective: next_item, whose loss it is")
        if self.reset == "batch" and self.serve == "before":
            raise ValueError("reset: batch needs serve: after; what a batch learned would serve nobody")
        return self

    @classmethod
    def published(cls, top_k: int = 50, **fixed: Any) -> Self:
        """The gate of the ETA-Rec report with K = `top_k`, on the adaptation that `fixed` describes."""
        gate = {
            "gate": "eta",
            "criterion": "entropy",
            "calibrate": "first_batch",
            "top_k": top_k,
            "entropy_quantile": 0.5,
            "cosine_threshold": 0.3,
            "admit": "confident",
        }
        return cls(**{**fixed, **gate})


# The fields that decide which samples are admitted; baselines replace them and keep the others.
GATE_FIELDS = frozenset(f.name for f in dataclasses.fields(AdaptConfig)) - {
    f.name for f in dataclasses.fields(LearningConfig)
}
