"""The frame of all benchmarks: each is a function from `Settings` to a `Table`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table as RichTable

Cell = str | int | float | None


@dataclass(frozen=True)
class Settings:
    """quick: smallest sizes, to check that everything runs; log: the interaction log, None for the embedded data."""

    quick: bool = False
    log: Path | None = None


@dataclass(frozen=True)
class Table:
    """about: the text above the table, on its content and on how it was measured."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Cell]]


def shown(cell: Cell) -> str:
    """Measured numbers with three significant digits, counts with separated thousands."""
    if cell is None:
        return "-"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        if 0 < abs(cell) < 0.001:
            return "< 0.001"
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:#.3g}".rstrip(".")
    return cell


def markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *([shown(cell) for cell in row] for row in table.rows)]
    body = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return f"## {table.title}\n\n{table.about}\n\n{body}\n"


def terminal(table: Table) -> RichTable:
    drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE)
    for number, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        drawn.add_row(*(shown(cell) for cell in row))
    return drawn
