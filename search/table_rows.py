"""The experiment file's section `table`: rows that differ in model, training or adaptation from the file's own.

A row's `model` replaces the file's, its `train` and `adapt` are merged over the file's (`train` over that of the row
named by `like`), so that a row says only what is its own; rows of the same model and training share their checkpoints.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from etarec.config import AdaptConfig, Count, ModelConfig, SeedInt, Share, TrainConfig
from etarec.document import quoted
from etarec.experiment_file import Problem

_STRICT = ConfigDict(extra="forbid", strict=True)
MERGED = ("train", "adapt")  # sections of a row that are merged over the file's
SHARED = ("model", "train")  # sections that a row has from the one that it is `like`
SECTIONS = ("model", "train", "adapt")
REPORTED = ""  # the problem of a value that a row has from elsewhere, where it is reported already


def _row_name(name: str) -> str:
    if not 0 < len(name.strip()) <= 80 or not name.isprintable():
        raise ValueError(f"given {quoted(name)}, expected a name of at most 80 characters on one line")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"given {quoted(values)}, expected each once")
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
    like: str | None = Field(default=None, description="an earlier row whose model and training this one has too")
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
    """The document with each row's sections written out; whatever is not a mapping stays as it is."""
    rows = _rows(document)
    return {**document, "table": {**document["table"], "rows": _whole(rows, document)}} if rows else document


def problems(document: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong between the rows, and, as REPORTED, what they have from elsewhere."""
    rows = _rows(document)
    names = [row.get("name") if isinstance(row, dict) else None for row in rows]
    for number, (row, whole) in enumerate(zip(rows, _whole(rows, document), strict=True)):
        if isinstance(row, dict):
            for key, problem in (*_name_problems(row, names, number), *_reported(row, whole)):
                yield ("table", "rows", number, *key), problem


def _rows(document: dict[str, Any]) -> list[Any]:
    table = document.get("table")
    rows = table.get("rows") if isinstance(table, dict) else None
    return rows if isinstance(rows, list) else []


def _name_problems(row: dict[str, Any], names: list[Any], number: int) -> Iterator[Problem]:
    name, like, against = row.get("name"), row.get("like"), row.get("against")
    if isinstance(name, str) and name in names[:number]:
        yield ("name",), f"given {quoted(name)} a second time, expected each row's own name"
    if isinstance(like, str) and like not in names[:number]:
        yield ("like",), f"given {quoted(like)}, expected the name of an earlier row"
    for other in against if isinstance(against, list) else ():
        if isinstance(other, str) and (other not in names or other == name):
            yield ("against",), f"given {quoted(other)}, expected names of other rows"


def _reported(row: dict[str, Any], whole: dict[str, Any]) -> Iterator[Problem]:
    """The sections, and the values in them, that a row has not given itself."""
    for section in SECTIONS:
        own, all_of_it = row.get(section), whole.get(section)
        if not own:
            yield (section,), REPORTED
        if isinstance(all_of_it, dict):
            given = own if isinstance(own, dict) else {}
            yield from (((section, key), REPORTED) for key in all_of_it.keys() - given.keys())


def _whole(rows: list[Any], document: dict[str, Any]) -> list[Any]:
    whole: list[Any] = []
    for row in rows:
        earlier = [one for one in whole if isinstance(one, dict) and isinstance(one.get("name"), str)]
        like = next((one for one in earlier if isinstance(row, dict) and one["name"] == row.get("like")), {})
        whole.append(_filled(row, document | {key: like[key] for key in SHARED if key in like}))
    return whole


def _filled(row: Any, common: dict[str, Any]) -> Any:
    """A row with what it has not said itself. A model is a whole, it has nothing from another one."""
    if not isinstance(row, dict):
        return row
    filled = {"model": common.get("model"), **row}
    for section in MERGED:
        own, shared = row.get(section), common.get(section)
        if own is None or isinstance(own, dict):
            filled[section] = {**(shared if isinstance(shared, dict) else {}), **(own or {})}
    return filled
