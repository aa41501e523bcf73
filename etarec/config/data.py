"""The interactions: where they come from, how they are read, split and served."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from etarec.config.values import STRICT, Count, SeedInt, Share, Text

# `user:password@` in front of the host, `?token=...` or `#token=...`, or anybody before a web server's host. Not the
# port in `host:80/a@b`, and not the container in `abfs://container@account`.
_SECRET_IN_ADDRESS = re.compile(
    r"^https?://[^/@?#]+@|"
    r"^[\w+.-]+://([^/@:?]*:(?!\d+/)[^@]*@|"
    r"[^?#]*[?#](.*[&#?])?[^=&]*(token|sig|pass|pwd|secret|credential|key)[^=&]*=)",
    re.IGNORECASE | re.DOTALL,
)

SplitName = Literal["train", "valid", "test"]
OrderName = Literal["user", "position", "time", "shuffled"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ColumnsConfig:
    """The log's columns: by name, where RecBole's `name:type` headers match by name; by number from 1; or `list.field`.

    `item: 2-` takes column 2 and all behind it, in a file of one user a line.
    """

    user: str | Count = Field(default="user_id", description="users")
    item: str | Count = Field(default="item_id", description="items")
    timestamp: str | Count | None = Field(
        default="timestamp", description="when; null: the file's order counts as time"
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SimulationConfig:
    """Size and seed of the embedded data set; etarec/simulate.py describes the world that it simulates."""

    users: Count = Field(default=3000, description="number of users")
    items: Annotated[int, Field(ge=20)] = Field(default=1500, description="number of items before the k-core filter")
    seed: SeedInt = Field(default=0, description="seed of the generator")


@dataclass(frozen=True, kw_only=True, config=STRICT)
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
    rehearsal_gap: bool = Field(
        default=True,
        description="trials of a rehearsal begin as late after its training as test begins after training: the first "
        "valid_share / (valid_share + test_share) of rehearsal_share is neither trained on nor served",
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
