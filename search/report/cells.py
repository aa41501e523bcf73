"""Tables as plain values and texts, which both templates show and the page sorts and copies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search.numbers import percent, seconds
from search.report import parameters
from search.selection.view import Row, Split


@dataclass(frozen=True)
class Column:
    """A column: its title, the title over it and its neighbours, and its name in a copied table."""

    title: str
    name: str
    group: str = ""
    words: bool = False  # aligned to the left

    @property
    def full(self) -> str:
        return f"{self.title} {self.group}".strip() if self.title != self.group else self.title


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value that is sorted and copied, small lines below the text, and its address.

    bar: parts of a bar that is drawn instead of the text, with their lengths in percent.
    """

    text: str
    value: Any = None
    notes: tuple[str, ...] = ()
    address: str = ""
    bar: tuple[tuple[str, float], ...] = ()

    @property
    def flat(self) -> str:
        """Text and notes in one line."""
        return f"{self.text} ({'; '.join(self.notes)})" if self.notes else self.text


@dataclass(frozen=True)
class Line:
    """A row of a table; a folded one is hidden until it is asked for, and a summary stands for the folded ones."""

    cells: Sequence[Cell]
    chosen: bool = False
    folded: bool = False
    summary: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report. `name` is its anchor in the page and its label in LaTeX."""

    name: str
    columns: Sequence[Column]
    lines: Sequence[Line] = field(default_factory=list)

    @property
    def grouped(self) -> list[tuple[str, int]]:
        """The titles over neighbouring columns, and the numbers of columns below them."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def parameter(row: Row, name: str) -> Cell:
    """A parameter, where a file's 50.0 of an integer field is 50."""
    value = row.get(name)
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    return Cell(parameters.text(name, value), plain)


def cost_cell(row: Row, split: Split, name: str) -> Cell:
    form = percent if name != "transitions_per_pass" else seconds
    return cell(row, f"{split}_{name}", form)


def cell(row: Row, column: str, form: Any) -> Cell:
    return Cell(form(row.get(column)), row.get(column))
