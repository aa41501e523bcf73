"""The baselines and the data set of a finished search, read from its files for MLflow."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etarec.document import quoted
from search.records.result_files import damaged, mapping_of
from search.records.trials_table import METRICS

_PREFIXES = {"valid": "", "test": "test_"}  # of a metric in MLflow, by split


@dataclass(frozen=True)
class Baseline:
    """A fixed configuration and its metrics on validation; those on test have the prefix test_."""

    parameters: dict[str, str]
    metrics: dict[str, float]


def baselines_of(folder: Path) -> dict[str, Baseline]:
    """The rows of baselines.csv by name; none where the search was cut off before them.

    Raises UserError for a value that is not a number.
    """
    path = folder / "baselines.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["trial_id"]: _baseline(path, row) for row in csv.DictReader(file) if row.get("trial_id")}


def data_of(folder: Path) -> dict[str, Any]:
    """The data set by the section `data` of provenance.json; empty where that is missing."""
    path = folder / "provenance.json"
    return (mapping_of(path, {"data"}).get("data") or {}) if path.exists() else {}


def _baseline(path: Path, row: dict[str, str]) -> Baseline:
    measured = {f"{prefix}{name}": f"{split}_{name}" for split, prefix in _PREFIXES.items() for name in METRICS}
    values = {name: _number(path, row, column) for name, column in measured.items() if row.get(column)}
    split = tuple(f"{split}_" for split in _PREFIXES)
    names = [name for name in row if name not in ("trial_id", "on_test_front") and not name.startswith(split)]
    return Baseline({name: row[name] or "null" for name in names}, values)


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError as error:
        found = f"row {row['trial_id']}, column {column}: given {quoted(row[column])}"
        raise damaged(path, found, "a number") from error
    if not math.isfinite(value):
        raise damaged(path, f"row {row['trial_id']}, column {column}: given {value}", "a finite number")
    return value
