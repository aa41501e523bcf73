"""The searched parameters as axes: where each trial lies between the two ends of what was searched."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search.report.files import Run

Floats = NDArray[np.float64]
EDGE = 0.02  # of an axis; a value as close to an end lies at it


@dataclass(frozen=True)
class Axis:
    """One axis, from 0 at its low end to 1 at its high end.

    names: the choices of a parameter that has no range, evenly spread from 0 to 1.
    """

    title: str
    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()

    def positions(self, values: pd.Series) -> Floats:
        """float [N] from 0 to 1, NaN where a value is unknown."""
        if self.names:
            places = [self.names.index(name) if name in self.names else np.nan for name in map(_name, values)]
            return np.array(places, dtype=float) / max(len(self.names) - 1, 1)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        scaled = (self._scaled(numbers) - self._ends[0]) / ((self._ends[1] - self._ends[0]) or 1.0)
        return np.asarray(np.clip(scaled, 0.0, 1.0))

    def features(self, values: pd.Series) -> Floats:
        """float [N, F]: the position, or one feature per choice where there are more than two."""
        if len(self.names) <= 2:
            return np.nan_to_num(self.positions(values), nan=0.5)[:, None]
        return np.array([[float(name == one) for one in self.names] for name in map(_name, values)]) / math.sqrt(2)

    def ticks(self) -> list[tuple[float, str]]:
        """Places on the axis and the texts at them."""
        if self.names:
            return [(place / max(len(self.names) - 1, 1), name) for place, name in enumerate(self.names)]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(0.0, f"{self.low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{self.high:.3g}")]

    @property
    def _ends(self) -> Floats:
        return self._scaled(np.array([self.low, self.high]))

    def _scaled(self, numbers: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(numbers) if self.log else numbers


def searched(run: Run) -> dict[str, Axis]:
    """The axis of each searched parameter."""
    return {name: _axis(name, run.spec["space"][name], run.finished[name]) for name in run.parameters}


def objective(title: str, measured: pd.Series) -> Axis:
    """The axis of an objective, between its lowest and its highest measurement."""
    return Axis(title, float(measured.min()), float(measured.max()))


def _axis(name: str, entry: Any, given: pd.Series) -> Axis:
    if isinstance(entry, dict) and entry.get("choices") is not None:
        return Axis(name, 0.0, 1.0, names=tuple(map(_name, entry["choices"])))
    if isinstance(entry, dict) and "low" in entry and "high" in entry:
        return Axis(name, float(entry["low"]), float(entry["high"]), bool(entry.get("log")))
    return Axis(name, 0.0, 1.0, names=tuple(sorted(set(map(_name, given)))))


def _name(value: Any) -> str:
    """A choice as text; a file's 50.0 and True are those of the spec."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "null"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
