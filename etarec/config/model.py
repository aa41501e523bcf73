"""The model: its architecture and its sizes."""

import dataclasses
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from etarec.config.values import STRICT, ClassPath, Count, Options, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT | ConfigDict(validate_by_name=True, validate_by_alias=True))
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
