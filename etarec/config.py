"""Every hyperparameter's default, legal range and meaning, once.

A field's constraint is its legal range; what a search covers of it is a line of the YAML file. The classes are
frozen and validate on construction, so `dataclasses.replace` cannot make an illegal configuration.
"""

import dataclasses
import re
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ClassPath = Annotated[
    str,
    Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$", json_schema_extra={"examples": ["package.module:Class"]}),
]
Option = str | bool | int | float | None
Options = Annotated[dict[str, Option | list[Option]], Field(description="options of a class of your own")]
SeedInt = Annotated[int, Field(ge=0, lt=2**31)]

# `user:password@` in front of the host, or `?token=...`; not the port in `host:80/a@b`.
_SECRET_IN_ADDRESS = re.compile(
    r"^[\w+.-]+://([^/@:?]*:(?!\d+/)[^@]*@|[^?]*\?(.*&)?[^=&]*(token|sig|pass|pwd|secret|credential|key)[^=&]*=)",
    re.IGNORECASE | re.DOTALL,
)

SplitName = Literal["train", "valid", "test"]
OrderName = Literal["user", "position", "time", "shuffled"]


class UserError(Exception):
    """A problem that the user can fix: shown as one message without a traceback, with exit status 2."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ColumnsConfig:
    """The log's columns: by name, where RecBole's `name:type` headers match by name; by number from 1; or `list.field`.

    `item: 2-` takes column 2 and all behind it, in a file of one user a line.
    """

    user: str | Count = Field(default="user_id", description="users")
    item: str | Count = Field(default="item_id", description="items")
    timestamp: str | Count | None = Field(
        default="timestamp", description="when; null: the file's order counts as time"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SimulationConfig:
    """Size and seed of the embedded data set; etarec/simulate.py describes the world that it simulates."""

    users: Count = Field(default=3000, description="number of users")
    items: Annotated[int, Field(ge=20)] = Field(default=1500, description="number of items before the k-core filter")
    seed: SeedInt = Field(default=0, description="seed of the generator")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataConfig:
    """The interactions, their split, and the order in which a stream serves them."""

    dataset: Literal["simulated"] | None = Field(default=None, description="the embedded data set, instead of a path")
    path: str | None = Field(default=None, description="interaction log: a file, a folder of parts, or an address")
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig, description="the columns of the log")
    separator: Text | None = Field(
        default=None, description="between values of a text file; a blank: runs of blanks; null: told by the content"
    )
    header: bool | None = Field(
        default=None, description="whether the first line holds names; null: it does unless columns are numbers"
    )
    encoding: Text | None = Field(default=None, description="of a text file; null: told by the content")
    time_format: Text | None = Field(
        default=None, description="of dates, such as `%d.%m.%Y %H:%M`; null: told by the content"
    )
    list_separator: Text | None = Field(
        default=None, description="between the items of one cell of a text file; null: a cell is one item"
    )
    where: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default_factory=dict, description="rows to keep: a column, and its values to keep"
    )
    at_least: dict[str, float] = Field(
        default_factory=dict, description="rows to keep: a column, and its smallest number to keep"
    )
    drop: tuple[Literal["missing_time", "missing_ids", "duplicates"], ...] = Field(
        default=(), description="rows to leave out; each is counted"
    )
    simulation: SimulationConfig = Field(default_factory=SimulationConfig, description="size and seed of `simulated`")
    k_core: Annotated[int, Field(ge=0)] = Field(
        default=5, description="fewest interactions per user and item; 0: no filter"
    )
    split: Literal["ratio", "leave_one_out"] = Field(default="ratio", description="how a user's samples are split")
    valid_share: Share = Field(default=0.2, description="ratio split: share of a user's samples for validation")
    test_share: Share = Field(default=0.5, description="ratio split: share of a user's samples for test")
    rehearsal_share: Share | Literal["auto"] | None = Field(
        default="auto",
        description="share of each user's samples, ending at test, on which trials run, from a checkpoint not trained "
        "on them; null: trials run on the validation split, from the final checkpoint; auto: the validation share plus "
        "half of the training share if `adapt` learns `next_item` and no checkpoint is given, else null",
    )
    max_length: Count = Field(default=50, description="most items of a sample's input; older ones are cut off")
    order: OrderName = Field(default="position", description="order in which a stream serves its samples")
    order_seed: SeedInt = Field(default=0, description="seed of the order `shuffled`")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (self.path is None):
            raise ValueError("give exactly one of `dataset: simulated` and `path: FILE`")
        if self.path and _SECRET_IN_ADDRESS.search(self.path):
            raise ValueError(
                "path: given an address with a password or token, which spec.yaml and MLflow would show; expected one "
                "without: put the secret where fsspec looks for it, or copy the log to this machine"
            )
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


@dataclass(frozen=True, kw_only=True, config=_STRICT | ConfigDict(validate_by_name=True, validate_by_alias=True))
class ModelConfig:
    """Architecture and sizes. The defaults are TTT4Rec's (arXiv 2409.19142); fields of other models are refused."""

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
    positions: Count = Field(default=50, description="SASRec, BERT4Rec: learned positions, at least data.max_length")
    class_path: ClassPath | None = Field(
        default=None, alias="class", description="a model of your own, instead of `name` and sizes: docs/own-model.md"
    )
    options: Options = dataclasses.field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The model's name in messages and file names: that of its architecture or of its class."""
        return self.class_path.partition(":")[2] if self.class_path else self.name

    def settings(self) -> dict[str, Any]:
        """The fields that describe this model, by name; `ModelConfig(**settings)` is the same configuration."""
        fields = dataclasses.asdict(self)
        own = {name: fields.pop(name) for name in OWN_MODEL_FIELDS}
        return own if self.class_path else fields

    @model_validator(mode="after")
    def _fields_of_the_model(self) -> Self:
        if self.class_path:
            return self._only_own_options()
        if self.options:
            raise ValueError(
                "options belong to a model of your own; expected `class: package.module:Class` beside them"
            )
        own = {"name", "width", "blocks", *OWN_MODEL_FIELDS, *_MODEL_FIELDS[self.name]}
        for field in dataclasses.fields(self):
            if field.name not in own and getattr(self, field.name) != type(self).__dict__[field.name]:
                known = ", ".join(sorted(own - {*OWN_MODEL_FIELDS}))
                raise ValueError(f"{self.name} has no {field.name}; expected one of {known}")
        if self.name == "ttt4rec" and self.width % (2 * self.heads):
            raise ValueError(f"width: given {self.width}, expected a multiple of 2 x heads, which is {2 * self.heads}")
        if "heads" in own and self.width % self.heads:
            raise ValueError(f"width: given {self.width}, expected a multiple of heads, which is {self.heads}")
        return self

    def _only_own_options(self) -> Self:
        defaults = type(self).__dict__
        for field in dataclasses.fields(self):
            if field.name not in OWN_MODEL_FIELDS and getattr(self, field.name) != defaults[field.name]:
                raise ValueError(f"{field.name} is not a key of a model of your own; expected it among `options`")
        return self


OWN_MODEL_FIELDS = ("class_path", "options")
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

    epochs: Count = Field(default=300, description="most passes over the training samples")
    patience: Count = Field(
        default=5, description="epochs without a better validation NDCG@10 after which training stops"
    )
    learning_rate: Positive = Field(default=1e-3, description="Adam's learning rate")
    batch_size: Count = Field(default=512, description="approximate number of samples (prefixes) per optimizer step")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.2, description="dropout of the item embeddings")
    skip_rate: Share = Field(default=0.0, description="share of the sequences trained without the inner loop")
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="BERT4Rec: share of the items masked in training"
    )
    mask_last: Share = Field(
        default=0.5,
        description="BERT4Rec: share of the sequences trained with a single mask at their end, as in serving",
    )
    window_stride: Count = Field(
        default=8, description="samples that share one input window, in histories beyond max_length"
    )
    negatives: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="items drawn per step to estimate the softmax, for catalogues of 200,000 items or more, for "
        "instance 8192; null: the softmax over all items",
    )
    seed: SeedInt = Field(default=0, description="seed of initial values, order and dropout")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LearningConfig:
    """How the model adapts: the weights that a backward pass updates, its loss and its optimizer.

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
    """Why a sample was admitted or skipped. A value of `AdaptConfig.criterion` is a reason's name in lower case."""

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


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
