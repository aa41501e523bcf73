"""The searched parameters in a report: their values, ranges, correlations and plots."""

import math
from typing import Any

import numpy as np
import pandas as pd

from search.report.files import Run


def text(name: str, value: Any) -> str:
    """A parameter's value as text; an empty `top_k` is all items."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "all items" if name == "top_k" else "null"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and name == "top_k" else f"{value:.3g}"
    return str(value)


def effects(run: Run) -> list[dict[str, Any]]:
    """Each searched parameter's range and its Spearman correlation with both objectives over the finished trials."""
    rows = []
    for name in run.parameters:
        x = axis_values(run, name)
        quality, rate = (_spearman(x, run.finished[objective]) for objective in (run.quality, "filter_rate"))
        rows.append({"name": name, "range": _range(run.spec["space"][name]), "quality": quality, "rate": rate})
    return rows


def axis_values(run: Run, name: str) -> pd.Series:
    """The finished trials' values of a parameter, where `top_k: null` is the number of items."""
    x = run.finished[name]
    if not pd.api.types.is_numeric_dtype(x):
        return x.replace("", "null")
    return x.fillna(float(run.items)) if name == "top_k" and run.items else x


def _spearman(x: pd.Series, y: pd.Series) -> float | None:
    if not pd.api.types.is_numeric_dtype(x) or x.nunique() < 2 or y.nunique() < 2:
        return None
    known = x.notna() & y.notna()
    return float(np.corrcoef(x[known].rank(), y[known].rank())[0, 1])


def _range(entry: Any) -> str:
    if isinstance(entry, dict) and entry.get("choices") is not None:
        return "one of " + ", ".join(text("", choice) for choice in entry["choices"])
    if isinstance(entry, dict) and "low" in entry and "high" in entry:
        return f"{entry['low']} to {entry['high']}" + (", log scale" if entry.get("log") else "")
    return str(entry)
