"""The complete rows of an experiment file's table: model, training, adaptation, seeds and comparisons of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etarec.command_line import naming
from etarec.config import AdaptConfig, ModelConfig, OrderName, TrainConfig, UserError
from search.baselines import baseline_config
from search.spec import Spec, check_top_k
from search.spec.table_rows import PublishedNumbers, RowConfig, TableConfig


@dataclass(frozen=True)
class Row:
    """One row with everything filled in. Each of its cells is trained with one of its `seeds`."""

    name: str
    model: ModelConfig
    train: TrainConfig
    adapt: AdaptConfig
    order: OrderName
    seeds: tuple[int, ...]
    against: tuple[str, ...] = ()
    published: PublishedNumbers | None = None


def table_of(spec: Spec) -> TableConfig:
    """The spec's table. Raises UserError, which names the key, where there is none or it cannot be trained."""
    if spec.table is None:
        raise UserError("table: missing, expected its rows")
    if spec.checkpoint is not None:
        raise UserError("checkpoint: a table trains its models itself; give `model` and `train` instead")
    return spec.table


def rows_of(
    spec: Spec, n_items: int, names: Sequence[str] = (), seeds: tuple[int, ...] = (), file: Path | None = None
) -> list[Row]:
    """The rows to measure, in the table's order.

    Args:
        spec: the experiment, with a table.
        n_items: the catalogue's size without padding.
        names: measure only these rows; empty means all.
        seeds: training seeds instead of those of each row.
        file: the file of the spec, for messages.

    Raises:
        UserError: a name is not in the table, or a row's K exceeds the catalogue.
    """
    with naming(file):
        table = table_of(spec)
    known = [row.name for row in table.rows]
    for name in names:
        if name not in known:
            raise UserError(f"--rows {name}: no such row in {file}; expected one of: {', '.join(known)}")
    rows = [_row(spec, row, seeds or row.seeds or table.seeds, n_items) for row in table.rows]
    with naming(file):
        for number, row in enumerate(rows):
            if row.adapt.gate == "eta":
                check_top_k(f"table.rows[{number}].adapt.top_k", row.adapt.top_k or 0, n_items)
    return [row for row in rows if not names or row.name in names]


def _row(spec: Spec, row: RowConfig, seeds: tuple[int, ...], n_items: int) -> Row:
    adapt = row.adapt or spec.adapt
    if row.baseline is not None:
        adapt = baseline_config(row.baseline, adapt, n_items=n_items)
    train = row.train or spec.train
    order = row.order or spec.data.order
    return Row(row.name, row.model or spec.model, train, adapt, order, seeds, row.against, row.published)


def by_checkpoint(rows: Sequence[Row]) -> dict[tuple[ModelConfig, TrainConfig], list[Row]]:
    """The rows of each checkpoint, in the table's order; all rows' first seeds come before their second seeds."""
    groups: dict[tuple[ModelConfig, TrainConfig], list[Row]] = {}
    for place in range(max(len(row.seeds) for row in rows)):
        for row in (row for row in rows if place < len(row.seeds)):
            groups.setdefault((row.model, replace(row.train, seed=row.seeds[place])), []).append(row)
    return groups
