"""Each parameter's share of the variation of each objective over the space, with its uncertainty.

A parameter's share is its total Sobol' index: the share of the variance that disappears, on average, once all other
parameters are known, so what it does together with another one counts for both (Jansen 1999). A Gaussian process of the
trials stands for the objective, as in the sampler, and functions drawn from its posterior carry the uncertainty of few
trials into the shares (Le Gratiet, Cannamela and Iooss 2014).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import qmc

from search.report import axes, parameters
from search.report.axes import Axis
from search.report.files import Run
from search.surrogate.gaussian_process import GaussianProcess

Floats = NDArray[np.float64]
FEWEST_TRIALS = 8  # with which a share says anything
MOST_TRIALS = 200  # evenly picked from a longer search: the model's time grows with the cube of their number
DESIGNS, POINTS, DRAWS = 4, 32, 25  # independent sets of points, points in each, functions drawn at each set


class Share(NamedTuple):
    """A share of the variance with its 95% interval."""

    value: float
    low: float
    high: float


Importances = dict[str, dict[str, Share]]  # by objective's column, then by parameter


def importances(run: Run) -> Importances:
    """The shares of `run.quality` and filter_rate; empty where trials are few or an objective never changes."""
    places = np.unique(np.linspace(0, len(run.finished) - 1, MOST_TRIALS).round().astype(int))
    if len(run.finished) < FEWEST_TRIALS or not run.parameters:
        return {}
    searched = axes.searched(run)
    chosen = {name: parameters.axis_values(run, name).iloc[places] for name in searched}
    objectives = {name: run.finished[name].iloc[places] for name in (run.quality, "filter_rate")}
    if any(measured.nunique() < 2 for measured in objectives.values()):
        return {}
    return {name: shares(searched, chosen, measured) for name, measured in objectives.items()}


def shares(searched: Mapping[str, Axis], chosen: Mapping[str, pd.Series], measured: pd.Series) -> dict[str, Share]:
    """Each parameter's share of the variance of one objective.

    Args:
        searched: the axes by name.
        chosen: the trials' values of each parameter.
        measured: their objective.
    """
    known = np.concatenate([axis.features(chosen[name]) for name, axis in searched.items()], axis=1)
    process = GaussianProcess.fit(known, measured.to_numpy(dtype=float))
    found = np.concatenate([_indices(process, list(searched.values()), seed) for seed in range(DESIGNS)])
    low, high = np.quantile(found, (0.025, 0.975), axis=0)
    ranges = np.column_stack([found.mean(axis=0), low, high]).tolist()
    return {name: Share(*bounds) for name, bounds in zip(searched, ranges, strict=True)}


def _indices(process: GaussianProcess, searched: list[Axis], seed: int) -> Floats:
    """float [DRAWS, parameters]: total Sobol' indices of functions drawn from the process, clipped to 0 to 1."""
    number = len(searched)
    sample = qmc.Sobol(2 * number, scramble=True, rng=seed).random(POINTS)
    first, second = sample[:, :number], sample[:, number:]
    swapped = np.repeat(first[None], number + 1, axis=0)  # [parameters + 1, POINTS, parameters]: the last is `first`
    swapped[np.arange(number), :, np.arange(number)] = second.T
    points = _features(searched, swapped.reshape(-1, number))
    drawn = process.draws(points, DRAWS, seed).reshape(DRAWS, number + 1, POINTS)
    moved = ((drawn[:, :-1] - drawn[:, -1:]) ** 2).mean(axis=2) / 2
    variance = drawn.reshape(DRAWS, -1).var(axis=1)
    return np.clip(moved / np.maximum(variance, 1e-300)[:, None], 0.0, 1.0)


def _features(searched: list[Axis], points: Floats) -> Floats:
    """float [N, parameters] from 0 to 1 -> float [N, F] as `Axis.features` makes them."""
    columns = [_column(axis, points[:, place]) for place, axis in enumerate(searched)]
    return np.concatenate(columns, axis=1)


def _column(axis: Axis, drawn: Floats) -> Floats:
    if not axis.names:
        return drawn[:, None]
    places = np.minimum((drawn * len(axis.names)).astype(int), len(axis.names) - 1)
    return axis.features(pd.Series([axis.names[place] for place in places]))
