"""The next configuration of a search, from the results so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import qmc

from search.sampler.improvement import expected_improvement
from search.sampler.objectives_model import ObjectivesModel, Origin
from search.selection.pareto import hypervolume, non_dominated
from search.surrogate.cube import Cube

Floats = NDArray[np.float64]
Parameters = Mapping[str, Any]

FEWEST_RESULTS = 4  # with which a model says more than an even spread
MOST_BELIEVED = 128  # awaited configurations in the model, whose cost grows with their cube
SPREAD, AROUND = 1024, 512  # candidates: spread over the cube, and around the best known configurations
REACHES = (0.05, 0.02, 0.008)  # standard deviations of the steps by which the best candidates are improved
ANEW = 0.1  # share of a step's coordinates that are drawn anew, so that choices change too


@dataclass(frozen=True)
class Known:
    """The results on which a proposal rests.

    results: configurations and their objectives, two or three, larger is better. K objectives.
    awaited: configurations without a result: running, failed, or not to be proposed again for another reason.
    anchors: float [A, K], objectives of configurations outside the space, which bound the front.
    reference: float [K], the corner from which the area counts.
    origin: adapting on everything, if it is known.
    most: float [K], the largest possible objectives.
    """

    results: Sequence[tuple[Parameters, Sequence[float]]]
    awaited: Sequence[Parameters]
    anchors: Floats
    reference: Floats
    origin: Origin | None = None
    most: float | Floats = np.inf


def spread(cube: Cube, number: int, seed: int) -> dict[str, Any]:
    """Point `number` of a scrambled Sobol sequence over the space, for a search without results."""
    sequence = qmc.Sobol(len(cube), scramble=True, rng=seed)
    if number:
        sequence.fast_forward(number)
    return cube.parameters(sequence.random(1)[0])


def propose(cube: Cube, known: Known, seed: int) -> dict[str, Any] | None:
    """The configuration that is expected to add most to the front's area; None if all candidates are known already.

    The model takes its own predictions for the results that are still awaited. Where these are more than MOST_BELIEVED,
    it takes those that are expected to add most, because a proposal near one of the others promises little anyway.
    """
    drawn = np.random.default_rng(seed)
    model = _Model(cube, known)
    candidates = _new(model, np.concatenate([_spread_out(cube, seed), _around(model.best(), AROUND, 0.1, drawn)]))
    if not len(candidates):
        return None
    for reach in REACHES:
        best = candidates[np.argsort(model.gains(candidates))[-8:]]
        candidates = _new(model, np.concatenate([best, _around(best, 64, reach, drawn)]))
    return cube.parameters(candidates[int(np.argmax(model.gains(candidates)))])


def gain_share(cube: Cube, known: Known, parameters: Parameters) -> float:
    """The expected gain in area of a configuration, as a share of the area reached; infinite where none is."""
    model = _Model(cube, known)
    mean, deviation = model._predicted(cube.points([parameters]))
    reached = np.concatenate([model.values, known.anchors])
    area = hypervolume(reached, known.reference.tolist())
    gain = float(expected_improvement(mean, deviation, reached, known.reference, known.most)[0])
    return gain / area if area > 0 else math.inf


class _Model:
    """The objectives modelled over the cube, and the front that the model believes in."""

    def __init__(self, cube: Cube, known: Known):
        self.cube, self.reference, self.anchors, self.most = cube, known.reference, known.anchors, known.most
        measured = cube.points([parameters for parameters, _ in known.results])
        awaited = cube.points(known.awaited)
        results = np.array([objectives for _, objectives in known.results], dtype=np.float64)
        self._objectives = ObjectivesModel.fit(cube.features(measured), results, known.origin)
        self.known = cKDTree(np.concatenate([measured, awaited]))
        self.points, self.values = measured, self._predicted(measured)[0]
        if len(awaited) > MOST_BELIEVED:
            awaited = awaited[np.sort(np.argsort(-self.gains(awaited), kind="stable")[:MOST_BELIEVED])]
        self._objectives = self._objectives.believing(cube.features(awaited))
        self.points = np.concatenate([measured, awaited])
        self.values = self._predicted(self.points)[0]  # without the noise of single measurements

    def best(self) -> Floats:
        """The points whose values are not dominated and lie above the reference; all where there is none."""
        kept = non_dominated(self.values) & (self.values > self.reference).all(axis=1)
        return self.points[kept] if kept.any() else self.points

    def gains(self, points: Floats) -> Floats:
        """The expected improvement at each point, by the trials' own front where none can improve on the anchors."""
        mean, deviation = self._predicted(points)
        for front in (np.concatenate([self.values, self.anchors]), self.values):
            gains = expected_improvement(mean, deviation, front, self.reference, self.most)
            if gains.max() > 0:
                break
        return gains

    def _predicted(self, points: Floats) -> tuple[Floats, Floats]:
        return self._objectives.predict(self.cube.features(points))


def _spread_out(cube: Cube, seed: int) -> Floats:
    return np.asarray(qmc.Sobol(len(cube), scramble=True, rng=seed).random(SPREAD))


def _around(points: Floats, count: int, reach: float, drawn: np.random.Generator) -> Floats:
    """`count` steps away from the points, in turn."""
    moved = np.resize(points, (count, points.shape[1])) + drawn.normal(0, reach, (count, points.shape[1]))
    return np.clip(np.where(drawn.random(moved.shape) < ANEW, drawn.random(moved.shape), moved), 0.0, 1.0)


def _new(model: _Model, points: Floats) -> Floats:
    """The points without repeats and without those that the model knows."""
    snapped = np.unique(model.cube.snapped(points), axis=0)
    nearest, _ = model.known.query(snapped, p=np.inf)
    return snapped[nearest > 1e-9]
