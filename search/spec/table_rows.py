"""The section `table` of an experiment file: rows that differ from the file in model, training or adaptation.

A row gives only the differences: its `model` replaces the file's, its `train` and `adapt` are merged over the file's
(`train` over that of the row named by `like`). Rows of the same model and training share their checkpoints.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from etarec.config import AdaptConfig, Count, ModelConfig, OrderName, SeedInt, Share, TrainConfig
from etarec.document import quoted
from etarec.experiment_file import Problem
from search.baselines import GateBaseline

_STRICT = ConfigDict(extra="forbid", strict=True)
MERGED = ("train", "adapt")  # sections of a row that are merged over the file's
SHARED = ("model", "train")  # sections that a row takes from the row named by `like`
SECTIONS = ("model", "train", "adapt")
REPORTED = ""  # the problem of an inherited value, which is reported at its origin


def _row_name(name: str) -> str:
    if not 0 < len(name.strip()) <= 80 or not name.isprintable():
        raise ValueError(f"given {quoted(name)}, expected a name of at most 80 characters on one line")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"given {quoted(values)}, expected each once")
    return values


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:  # a minimal length in the schema would count the valid values only
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
    """Published numbers for a row, on test unless the name says otherwise."""

    hr_at_10: Share | None = None
    ndcg_at_10: Share | None = None
    hr_at_50: Share | None = None
    ndcg_at_50: Share | None = None
    filter_rate: Share | None = None
    valid_filter_rate: Share | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RowConfig:
    """One row of the table."""

    name: Annotated[str, AfterValidator(_row_name)] = Field(description="the row's name in the table")
    like: str | None = Field(default=None, description="an earlier row with the same model and training")
    model: ModelConfig | None = Field(default=None, description="architecture, instead of the file's")
    train: TrainConfig | None = Field(default=None, description="training, merged over the file's")
    adapt: AdaptConfig | None = Field(default=None, description="adaptation and gate, merged over the file's")
    order: OrderName | None = Field(default=None, description="order of the streams, instead of `data.order`")
    baseline: GateBaseline | None = Field(
        default=None,
        description="replace the gate in `adapt` by that of this baseline, whose E0 or K depends on the catalogue",
    )
    seeds: Seeds | None = Field(default=None, description="training seeds, instead of the table's")
    published: PublishedNumbers | None = Field(default=None, description="published numbers, shown beside ours")
    against: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(
        default=(), description="rows to compare this row with"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TableConfig:
    """The rows that `python -m search.table` measures; a search ignores them."""

    seeds: Seeds = Field(
        default=(0,), description="training seeds; a row shows the mean and standard deviation over them"
    )
    published_on: DataSize | None = Field(default=None, description="size of the data of the published numbers")
    rows: Annotated[tuple[RowConfig, ...], AfterValidator(_some)] = Field(description="rows, in the table's order")


def merged(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the complete sections of each row; a section that is no mapping stays unchanged."""
    rows = _rows(document)
    return {**document, "table": {**document["table"], "rows": _all_filled(rows, document)}} if rows else document


def problems(document: dict[str, Any]) -> Iterator[Problem]:
    """Problems of the relations between rows, and REPORTED for each inherited value."""
    rows = _rows(document)
    names = [row.get("name") if isinstance(row, dict) else None for row in rows]
    for number, (row, filled) in enumerate(zip(rows, _all_filled(rows, document), strict=True)):
        if isinstance(row, dict):
            for key, problem in (*_name_problems(row, names, number), *_reported(row, filled)):
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


def _reported(row: dict[str, Any], filled: dict[str, Any]) -> Iterator[Problem]:
    """The sections and values that a row inherits."""
    for section in SECTIONS:
        own, complete = row.get(section), filled.get(section)
        if not own:
            yield (section,), REPORTED
        if isinstance(complete, dict):
            given = own if isinstance(own, dict) else {}
            yield from (((section, key), REPORTED) for key in complete.keys() - given.keys())


def _all_filled(rows: list[Any], document: dict[str, Any]) -> list[Any]:
    filled: list[Any] = []
    for row in rows:
        earlier = [one for one in filled if isinstance(one, dict) and isinstance(one.get("name"), str)]
        like = next((one for one in earlier if isinstance(row, dict) and one["name"] == row.get("like")), {})
        filled.append(_filled(row, document | {key: like[key] for key in SHARED if key in like}))
    return filled


def _filled(row: Any, common: dict[str, Any]) -> Any:
    """A row with its inherited values. A row's own `model` inherits nothing."""
    if not isinstance(row, dict):
        return row
    filled = {"model": common.get("model"), **row}
    for section in MERGED:
        own, shared = row.get(section), common.get(section)
        if own is None or isinstance(own, dict):
            filled[section] = {**(shared if isinstance(shared, dict) else {}), **(own or {})}
    return filled
