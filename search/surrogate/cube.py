"""The searched space as a unit cube with one coordinate per field, and as the features of a model.

Every coordinate stands for a value: a stretch of the cube's edge for each integer, step or choice, a point of it
otherwise. `snapped` moves coordinates to the middle of their stretch, so that equal configurations have equal
coordinates. Features are the coordinates, except that an unordered choice has a feature per value.

Symbols: N configurations, D fields, F features.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etarec.config import AdaptConfig
from search.spec.dimension import Dimension, Value
from search.spec.space import Space, acts

Floats = NDArray[np.float64]

DIGITS = 6  # significant ones of a proposed number
MIDDLE = 0.5  # the coordinate of a field that does not act


class Axis:
    """The coordinate of one field."""

    def __init__(self, dimension: Dimension):
        self.dimension = dimension
        self.listed = dimension.values() if dimension.choices is not None or dimension.step is not None else ()
        self.unordered = dimension.choices is not None and len(dimension.choices) > 2
        if not self.listed:
            assert dimension.low is not None and dimension.high is not None
            margin = 0.5 if dimension.kind == "int" else 0.0  # so that an end is as likely as any other integer
            self._low, self._high = (self._scaled(dimension.low - margin), self._scaled(dimension.high + margin))

    def value(self, coordinate: float) -> Value:
        """The value at a coordinate from 0 to 1."""
        if self.listed:
            return self.listed[min(int(coordinate * len(self.listed)), len(self.listed) - 1)]
        scaled = self._low + coordinate * (self._high - self._low)
        number = math.exp(scaled) if self.dimension.log else scaled
        assert self.dimension.low is not None and self.dimension.high is not None
        number = round(number) if self.dimension.kind == "int" else float(f"{number:.{DIGITS}g}")
        return min(max(number, self.dimension.low), self.dimension.high)

    def coordinate(self, value: Value) -> float:
        """The coordinate of a value, also of one outside a range that has become narrower."""
        if self.listed:
            places = [place for place, one in enumerate(self.listed) if _same(one, value)]
            return (places[0] + 0.5) / len(self.listed) if places else MIDDLE
        assert isinstance(value, int | float)
        return (self._scaled(value) - self._low) / (self._high - self._low)

    def snapped(self, coordinates: Floats) -> Floats:
        """float [N] -> float [N]: the coordinates of their values, but for the rounding of a real number."""
        if self.listed:
            return (self.places(coordinates) + 0.5) / len(self.listed)
        if self.dimension.kind != "int":
            return coordinates
        scaled = self._low + coordinates * (self._high - self._low)
        numbers = np.round(np.exp(scaled) if self.dimension.log else scaled)
        within = np.clip(numbers, self.dimension.low, self.dimension.high)
        return ((np.log(within) if self.dimension.log else within) - self._low) / (self._high - self._low)

    def places(self, coordinates: Floats) -> NDArray[np.intp]:
        """float [N] -> int [N]: the places of the values in a list of choices or steps."""
        return np.minimum((coordinates * len(self.listed)).astype(np.intp), len(self.listed) - 1)

    def features(self, coordinates: Floats) -> Floats:
        """float [N] -> float [N, features of this field]."""
        if not self.unordered:
            return coordinates[:, None]
        places = self.places(coordinates)
        apart: Floats = np.eye(len(self.listed))[places] / math.sqrt(2)  # any two choices lie 1 apart
        return apart

    def _scaled(self, number: float) -> float:
        return math.log(number) if self.dimension.log else float(number)


def _same(one: Value, other: Value) -> bool:
    numbers = isinstance(one, float) and isinstance(other, int | float)
    return one == other or (numbers and math.isclose(one, other, rel_tol=1e-9))  # type: ignore[arg-type]


class Cube:
    """The space of a search. `fixed` has the values that conditions on fields outside the space compare with."""

    def __init__(self, space: Space, fixed: AdaptConfig):
        self.space, self.fixed = space, fixed
        self.axes = {key: Axis(dimension) for key, dimension in space.items()}

    def __len__(self) -> int:
        return len(self.axes)

    def parameters(self, point: Floats) -> dict[str, Value]:
        """The values at a point: float [D]."""
        return {key: axis.value(float(u)) for (key, axis), u in zip(self.axes.items(), point, strict=True)}

    def points(self, configurations: Sequence[Mapping[str, Any]]) -> Floats:
        """The points of configurations, float [N, D]."""
        rows = [[self._coordinate(key, parameters) for key in self.axes] for parameters in configurations]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self))

    def snapped(self, points: Floats) -> Floats:
        """The points, moved to the coordinates of their values: float [N, D] -> float [N, D]."""
        inside = np.clip(points, 0.0, 1.0)
        columns = [axis.snapped(inside[:, place]) for place, axis in enumerate(self.axes.values())]
        for place, dimension in enumerate(self.space.values()):
            columns[place] = np.where(self._acting(dimension, inside), columns[place], MIDDLE)
        return np.column_stack(columns)

    def features(self, points: Floats) -> Floats:
        """float [N, D] -> float [N, F]."""
        columns = [axis.features(points[:, place]) for place, axis in enumerate(self.axes.values())]
        return np.concatenate(columns, axis=1)

    def _acting(self, dimension: Dimension, points: Floats) -> NDArray[np.bool_]:
        """Whether the dimension's condition is met at each point, bool [N]; see search/spec/space.py: acts."""
        met = np.ones(len(points), dtype=np.bool_)
        for key, values in dimension.when.items():
            if key not in self.axes:
                met &= getattr(self.fixed, key) in values
                continue
            axis, coordinates = self.axes[key], points[:, list(self.axes).index(key)]
            met &= np.array([value in values for value in axis.listed])[axis.places(coordinates)]
        return met

    def _coordinate(self, key: str, parameters: Mapping[str, Any]) -> float:
        if not acts(self.space[key], self.fixed, parameters):
            return MIDDLE
        return self.axes[key].coordinate(parameters[key])
