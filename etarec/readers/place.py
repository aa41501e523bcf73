"""Names of a log's files, rows and columns in messages."""

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from etarec.config import UserError

Bools = npt.NDArray[np.bool_]

EXPECTED_FILE = (
    "expected an interaction log: text with one interaction or one user a line, JSON lines, Parquet or Feather "
    "(text and JSON also as .gz, .bz2, .xz, .zst or .zip)"
)
NO_ROWS = f"holds no interactions; {EXPECTED_FILE} with at least one row"

# Texts, in lower case and without blanks around them, with which programs write a missing value.
MISSING_WORDS = ("", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "nil", "none", "\\n", "undefined", "-", "?")


@dataclass(frozen=True, eq=False)
class Places:
    """The origin of each row of a table, for messages."""

    source: str  # the file or folder that the user named
    unit: str = "row"  # of a row's number: line, row or interaction
    first: int = 1  # number of a part's first row; 2 behind a line of names
    parts: tuple[tuple[str, int], ...] = ()  # of a folder: each part's name and its number of rows
    kept: Bools | None = None  # which of the rows read are still in the table; None: all

    def after(self, kept: Bools) -> "Places":
        """The places of the rows for which `kept`, bool [rows now], is true."""
        if self.kept is None:
            return replace(self, kept=kept)
        both = self.kept.copy()
        both[both] = kept
        return replace(self, kept=both)

    def name(self, row: int) -> str:
        """The file and number of the table's row `row` (from 0)."""
        if self.kept is not None:
            row = int(np.flatnonzero(self.kept)[row])
        source = self.source
        for part, rows in self.parts:
            if row < rows:
                source = part
                break
            row -= rows
        return f"{source}: {self.unit} {row + self.first}"

    def fail(self, row: int, fault: str) -> NoReturn:
        """Raise UserError about the table's row `row` (from 0)."""
        raise UserError(f"{self.name(row)} {fault}")


def listed(names: list[str], most: int = 30) -> str:
    """Names for a message, each cut at 40 characters."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name[:40]) for name in names[:most]) + more
