"""The training of a checkpoint."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from etarec.config.values import STRICT, Count, Positive, SeedInt, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
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
