"""Searches replayed from a table of real measurements, and how much of the table's front they find.

A search is the product's own `Suggestions`, with its lag behind the results, on a space that consists of the table's
configurations. `auto` chooses among them by its own rule. Another sampler's suggestion is replaced by the nearest
configuration that was not measured before. All trials take equally long.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from etarec.metrics import QUALITY_METRICS
from search.baselines import ALL, NONE
from search.running.suggest import Parameters, Suggestions
from search.selection.pareto import hypervolume
from search.spec import Spec, load, objectives_of
from search.surrogate.cube import Cube
from tests.driven_search import drive

Floats = NDArray[np.float64]

CONFIGS, TABLES = Path(__file__).parents[2] / "configs", Path(__file__).parent / "tables"
SPACE, TABLE = CONFIGS / "space.yaml", TABLES / "space.csv.gz"
KEPT = (*QUALITY_METRICS, "filter_rate")  # of a measurement
SAMPLERS = {  # label -> search.sampler, results that `auto` models at most
    "random": ("random", 0),
    "sobol": ("sobol", 0),
    "nsga2": ("nsga2", 0),
    "tpe": ("tpe", 0),
    "tpe, not worse than none": ("auto", 0),
    "auto": ("auto", 10_000),
}
TOLERATED = 0.98  # of the quality of adapting on everything, for the question what a user loses


def read(path: Path = TABLE) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """The configurations with their parameters and metrics, and the metrics of the anchors by their names."""
    rows = pd.read_csv(path)
    fixed = rows[rows["name"].notna()].set_index("name")
    known = {str(name): {key: float(row[key]) for key in KEPT} for name, row in fixed.iterrows()}
    measured = rows[rows["name"].isna()].drop(columns="name").reset_index(drop=True)
    numbers = measured.select_dtypes("number").columns.difference(KEPT)
    integral = [key for key in numbers if (measured[key] % 1 == 0).all()]
    typed = measured.astype(dict.fromkeys(integral, int))  # beside the anchors' blanks they are floats
    return typed.astype(object).where(typed.notna(), None), known


@dataclass(frozen=True)
class Measured:
    """A spec and the measurements of its space: configurations with metrics, and the anchors' metrics by name."""

    spec: Spec
    table: pd.DataFrame
    anchors: dict[str, dict[str, float]]

    @classmethod
    def read(cls, space: Path, file: Path) -> "Measured":
        spec = load(space)  # whose bounds are left out, since areas begin at no adaptation here
        return cls(replace(spec, search=replace(spec.search, constraints={})), *read(file))

    @property
    def values(self) -> Floats:
        """The configurations' quality and filter rate, float [N, 2]."""
        return self._objectives(self.table)

    @property
    def anchor_values(self) -> Floats:
        return self._objectives(pd.DataFrame(self.anchors.values()))

    def _objectives(self, frame: pd.DataFrame) -> Floats:
        return frame[[self.spec.search.quality, "filter_rate"]].to_numpy(dtype=np.float64)


class TableCube(Cube):
    """A cube whose only points are the configurations of a table."""

    def __init__(self, measured: Measured):
        super().__init__(measured.spec.space, measured.spec.adapt)
        self.rows: list[Parameters] = measured.table[list(self.space)].to_dict("records")
        self.rows_at = super().points(self.rows)
        self._tree = cKDTree(self.rows_at)

    def snapped(self, points: Floats) -> Floats:
        return self.rows_at[self._nearest(points)]

    def parameters(self, point: Floats) -> Parameters:
        return dict(self.rows[int(self._nearest(point[None])[0])])

    def _nearest(self, points: Floats) -> NDArray[np.intp]:
        nearest: NDArray[np.intp] = self._tree.query(points, p=1)[1]
        return nearest


class OnTable(Suggestions):
    """Suggestions of a table's configurations only."""

    def __init__(self, measured: Measured, label: str, concurrency: int, seed: int):
        sampler, self.most_modelled = SAMPLERS[label]
        search = replace(measured.spec.search, sampler=sampler, seed=seed)
        super().__init__(replace(measured.spec, search=search), concurrency, measured.anchors)
        self._cube: TableCube = TableCube(measured)
        self.taken: list[int] = []

    def _draw(self, attempt: int) -> tuple[optuna.Trial, Parameters]:
        trial, parameters = super()._draw(attempt)
        away = np.abs(self._cube.rows_at - self._cube.points([parameters])).sum(axis=1)
        away[self.taken] = np.inf
        self.taken.append(int(np.argmin(away)))
        row = dict(self._cube.rows[self.taken[-1]])
        if self.search.sampler == "nsga2":  # Optuna's trial stays, since it belongs to a generation
            return trial, row
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return self._take(row)


def replay(measured: Measured, label: str, concurrency: int, seed: int, trials: int) -> Floats:
    """Quality and filter rate of a search's trials in the order in which they end, float [trials, 2]."""
    suggestions = OnTable(measured, label, concurrency, seed)
    results = [objectives_of(measured.spec.search, row) for row in measured.table.to_dict("records")]
    drive(suggestions, trials, concurrency, lambda number, parameters: results[suggestions.taken[number]])
    return measured.values[suggestions.taken]


class Truth:
    """The front of the whole table, and the parts of it that some trials find.

    Areas begin at the corner (quality of no adaptation, filter rate 0).
    """

    def __init__(self, measured: Measured):
        none, everything = (measured.anchors[name][measured.spec.search.quality] for name in (NONE, ALL))
        self.corner, self.floor = (none, 0.0), TOLERATED * everything
        self.points, self.anchors = measured.values, measured.anchor_values

    def share(self, values: Floats) -> float:
        """The area under the trials, as a share of the area under the table."""
        return self._area(values) / self._area(self.points)

    def beyond(self, values: Floats) -> float:
        """The same of the area that the anchors do not cover."""
        return self._gain(values) / self._gain(self.points)

    @cached_property
    def free(self) -> float:
        """The share of the area under table and anchors that the anchors cover without any trial."""
        return self._area(self.anchors) / self._area(np.concatenate([self.anchors, self.points]))

    def lost(self, values: Floats) -> float:
        """How much less can be skipped at a quality of at least TOLERATED than with the whole table."""
        return self._most(self.points) - self._most(values)

    def _area(self, values: Floats) -> float:
        return hypervolume(values, self.corner)

    def _gain(self, values: Floats) -> float:
        return self._area(np.concatenate([self.anchors, values])) - self._area(self.anchors)

    def _most(self, values: Floats) -> float:
        return float(values[values[:, 0] >= self.floor, 1].max(initial=0.0))
