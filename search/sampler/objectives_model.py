"""A model of all objectives over the features of the cube: a Gaussian process for each.

A gate that skips nothing adapts on everything, so all such gates have one quality; the more a gate skips, the more its
quality depends on what it skips. With r the filter rate, and q0 and r0 those of adapting on everything, an objective q
is therefore modelled as (q - q0) / (r - r0 + R0). A field other than the gate's may change the quality at r0, too; R0
leaves room for that.

Symbols: N results, M points, F features, K objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from search.surrogate.gaussian_process import GaussianProcess

Floats = NDArray[np.float64]

R0 = 0.25  # so that noise at a low rate is not magnified; chosen on the first part of a table, docs/search.md


@dataclass(frozen=True)
class Origin:
    """The objectives of adapting on everything, float [K], and the place of the filter rate among them."""

    values: Floats
    rate: int


@dataclass(frozen=True)
class ObjectivesModel:
    """A fitted process for each objective; without an origin, each process models the objective itself."""

    processes: Sequence[GaussianProcess]
    origin: Origin | None

    @classmethod
    def fit(cls, features: Floats, values: Floats, origin: Origin | None) -> Self:
        """The model of results: features float [N, F] and values float [N, K], N > 1."""
        shift, factors = _scales(values, origin)
        return cls([GaussianProcess.fit(features, target) for target in ((values - shift) / factors).T], origin)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations of the objectives without noise, float [M, K] each, at float [M, F]."""
        each = [process.predict(features) for process in self.processes]
        means, deviations = (np.column_stack(part) for part in zip(*each, strict=True))
        shift, factors = _scales(means, self.origin)
        return shift + factors * means, factors * deviations

    def believing(self, features: Floats) -> Self:
        """The model once its own means have been observed at float [M, F]."""
        return replace(self, processes=[process.believing(features) for process in self.processes])


def _scales(values: Floats, origin: Origin | None) -> tuple[Floats, Floats]:
    """The shift and the factors, float [N, K], between objectives and modelled values; the filter rate keeps its own.

    values: float [N, K]; only the column of the filter rate is read.
    """
    shift, factors = np.zeros_like(values), np.ones_like(values)
    if origin is None:
        return shift, factors
    others = np.arange(values.shape[1]) != origin.rate
    shift[:, others] = origin.values[others]
    factors[:, others] = np.clip(values[:, [origin.rate]] - origin.values[origin.rate], 0.0, 1.0) + R0
    return shift, factors
