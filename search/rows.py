"""The experiment file's section `table`: rows that differ in model, training or adaptation from the file's own.

A row's `model` replaces the file's, its `train` and `adapt` are merged over the file's, so that a row says only what is
its own and rows with the same model and training share their checkpoints.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from etarec.config import AdaptConfig, Count, ModelConfig, SeedInt, Share, TrainConfig
from etarec.document import shown
from etarec.settings import Problem

_STRICT = ConfigDict(extra="forbid", strict=True)
MERGED = ("train", "adapt")  # sections of a row that are merged over the file's
REPORTED = ""  # the problem of a value that a row has from the file, where it is reported already


def _row_name(name: str) -> str:
    if not 0 < len(name.strip()) <= 80 or not name.isprintable():
        raise ValueError(f"given {shown(name)}, expected a name of at most 80 characters on one line")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"given {shown(values)}, expected each once")
    return values


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:  # a minimal length in the schema would count only the valid ones
        raise ValueError("given [], expected at least one")
    return values


Seeds = Annotated[tuple[SeedInt, ...], AfterValidator(_some), AfterValidator(_distinct)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataSize:
    """Users and items of a data set after its k-core filter."""

    users: Count = Field(description="number of users")
    items: Count = Field(description="number of items")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PublishedNumbers:
    """What somebody else has reported for a row, on test unless the name says otherwise."""

    hr_at_10: Share | None = None
    ndcg_at_10: Share | None = None
    hr_at_50: Share | None = None
    ndcg_at_50: Share | None = None
    filter_rate: Share | None = None
    valid_filter_rate: Share | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RowConfig:
    """One row of the table. `baseline` puts the gate of a search's baseline of that name over the row's `adapt`."""

    name: Annotated[str, AfterValidator(_row_name)] = Field(description="what the table calls it")
    model: ModelConfig | None = Field(default=None, description="architecture, instead of the file's")
    train: TrainConfig | None = Field(default=None, description="training, merged over the file's")
    adapt: AdaptConfig | None = Field(default=None, description="adaptation and gate, merged over the file's")
    baseline: Literal["naive", "published"] | None = Field(
        default=None, description="a baseline's gate over `adapt`; its E0 or K depend on the catalogue"
    )
    seeds: Seeds | None = Field(default=None, description="training seeds, instead of the table's")
    published: PublishedNumbers | None = Field(default=None, description="numbers to show beside ours")
    against: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(
        default=(), description="rows that this one is compared with"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TableConfig:
    """The rows that `python -m search.table` measures; a search does not look at them."""

    seeds: Seeds = Field(default=(0,), description="training seeds; a row shows mean and standard deviation over them")
    published_on: DataSize | None = Field(default=None, description="size of the data of the published numbers")
    rows: Annotated[tuple[RowConfig, ...], AfterValidator(_some)] = Field(description="rows, in the table's order")


def merged(document: dict[str, Any]) -> dict[str, Any]:
    """The document with each row's `train` and `adapt` written out; whatever is not a mapping stays as it is."""
    table = document.get("table")
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        return document
    rows = [_whole(row, document) if isinstance(row, dict) else row for row in table["rows"]]
    return {**document, "table": {**table, "rows": rows}}


def problems(document: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong between the rows, and, as REPORTED, what the rows have from the file's own sections."""
    table = document.get("table")
    rows = table.get("rows") if isinstance(table, dict) else None
    if not isinstance(rows, list):
        return
    names = [row.get("name") if isinstance(row, dict) else None for row in rows]
    for number, row in enumerate(rows):
        place = ("table", "rows", number)
        if not isinstance(row, dict):
            continue
        if isinstance(names[number], str) and names[number] in names[:number]:
            yield (*place, "name"), f"given {shown(names[number])} a second time, expected each row's own name"
        against = row.get("against")
        for other in against if isinstance(against, list) else ():
            if isinstance(other, str) and (other not in names or other == names[number]):
                yield (*place, "against"), f"given {shown(other)}, expected names of other rows"
        for section in MERGED:
            own, common = row.get(section), document.get(section)
            for key in common if isinstance(common, dict) else ():
                if not isinstance(own, dict) or key not in own:
                    yield (*place, section, key), REPORTED


def _whole(row: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    whole = dict(row)
    for section in MERGED:
        own, common = row.get(section), document.get(section)
        if own is None or isinstance(own, dict):
            whole[section] = {**(common if isinstance(common, dict) else {}), **(own or {})}
    return whole
