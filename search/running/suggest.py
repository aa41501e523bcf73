"""Which configuration comes next: the only file that knows Optuna.

Suggestion n rests on the results of suggestions 0..n-L alone (`learning.lag`), and its sampler is seeded anew for each
n. The sequence therefore depends on the seed and on the concurrency, not on which trial happened to end first, and
asking again for the trials of a journal rebuilds the study of an interrupted search.
"""

import hashlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.running.known import MOST_MODELLED, known, reference
from search.running.learning import FEWEST, lag
from search.sampler.proposal import Known, gain_share, propose, spread
from search.spec import Spec, first_points
from search.spec.constraint import parsed
from search.spec.dimension import Dimension
from search.spec.space import Space, acting, settled
from search.surrogate.cube import Cube

ATTEMPTS = 20  # to draw a configuration that was not suggested before
FEWEST_TO_CONVERGE = 16  # results; with fewer the model is too sure of itself
Parameters = dict[str, Any]


class Suggestions:
    """The study of one search; `ask` and `tell` number its suggestions from 0.

    anchors: the metrics of the configurations that were measured before the trials, by their names.
    taken: the parameters and objectives of earlier searches' trials, which have the first numbers.
    first: further configurations to suggest before the sampler's.
    """

    most_modelled = MOST_MODELLED

    def __init__(
        self,
        spec: Spec,
        concurrency: int,
        anchors: Mapping[str, Mapping[str, float]] | None = None,
        taken: Sequence[tuple[Parameters, Sequence[float]]] = (),
        first: Sequence[Parameters] = (),
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec, self.search, self._lag = spec, spec.search, lag(concurrency)
        self.distributions = {name: distribution(dimension) for name, dimension in spec.space.items()}
        self.study = optuna.create_study(directions=["maximize"] * len(spec.search.objectives), sampler=RandomSampler())
        self._cube = Cube(spec.space, spec.adapt)
        self._anchors = anchors or {}
        known, points = [parameters for parameters, _ in taken], first_points(spec)
        points += [point for point in first if point not in points]
        # They are enqueued one by one, so that a recorded trial can come before the next.
        self._first = [point for point in points if point not in known]
        self._asked: list[tuple[optuna.Trial, Parameters]] = []
        self._results: dict[int, Sequence[float] | None] = {}
        self._pruned: set[int] = set()
        self._metrics: dict[int, Mapping[str, float]] = {}
        self._known: Known | None = None  # on which the last proposal rests, if it is the model's
        self.converged = False  # no more is suggested because no more is to be found
        self._told = 0
        self._begin_with(taken)

    def ready(self) -> bool:
        """Whether all results on which the next suggestion rests have been told."""
        return all(number in self._results for number in range(self._told, self._due()))

    def ask(self, recorded: Mapping[str, Any] | None = None) -> Parameters | None:
        """The next suggestion, or None if every configuration of the space was suggested before.

        recorded: the parameters that the records hold for this number; the study follows them.
        """
        for number in range(self._told, self._due()):
            self._tell_study(number)
        trial, parameters = self._suggest()
        if recorded is not None and parameters != dict(recorded):
            # Another version of the sampler may suggest something else; the study follows the records.
            if trial is not None:
                self.study.tell(trial, state=TrialState.FAIL)
            trial, parameters = self._take(dict(recorded))
        if trial is None:
            return None
        if recorded is None and self._has_converged(parameters):
            self.study.tell(trial, state=TrialState.FAIL)
            self.converged = True
            return None
        self._asked.append((trial, parameters))
        return parameters

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        pruned: bool = False,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Notes the objectives of suggestion `number`, None if it was pruned or has failed.

        The study is told in the order of numbers. metrics: all of them, for the constraints.
        """
        self._results[number] = values
        if metrics:
            self._metrics[number] = metrics
        if pruned:
            self._pruned.add(number)

    def tell_rest(self) -> None:
        """Tells the study all results that it has not been told."""
        for number in range(self._told, len(self._asked)):
            if number in self._results:
                self._tell_study(number)

    def _begin_with(self, taken: Sequence[tuple[Parameters, Sequence[float]]]) -> None:
        for number, (parameters, values) in enumerate(taken):
            self._asked.append(self._take(parameters))
            self.tell(number, values)
            self._tell_study(number)

    def _due(self) -> int:
        return max(0, len(self._asked) - self._lag + 1)

    def _tell_study(self, number: int) -> None:
        trial, values = self._asked[number][0], self._results[number]
        if values is not None and self.search.sampler == "auto":
            place = self.search.objectives.index(self.search.quality)
            worst = reference(self.search, self._anchors)[place]
            trial.set_constraint("no worse than no adaptation", float(max(worst - values[place], -1.0)))
            for constraint in parsed(self.search.constraints) if number in self._metrics else ():
                excess = constraint.excess(self._metrics[number], self._anchors)
                trial.set_constraint(str(constraint), max(excess, -1.0))
        unfinished = TrialState.PRUNED if number in self._pruned else TrialState.FAIL
        self.study.tell(trial, values, state=unfinished if values is None else None)
        self._told = number + 1

    def _suggest(self) -> tuple[optuna.Trial | None, Parameters]:
        before = [parameters for _, parameters in self._asked]
        for attempt in range(ATTEMPTS):
            trial, parameters = self._draw(attempt)
            if parameters not in before:
                return trial, parameters
            self.study.tell(trial, state=TrialState.FAIL)
        left = next((point for point in self._grid() if self._settled(point) not in before), None)
        return (None, {}) if left is None else self._take(left)

    def _grid(self) -> Iterator[Parameters]:
        """All configurations of a space of choices, integers and steps, and none of a continuous space."""
        values = [dimension.values() for dimension in self.spec.space.values()]
        if all(values):
            yield from (dict(zip(self.spec.space, point, strict=True)) for point in itertools.product(*values))

    def _draw(self, attempt: int) -> tuple[optuna.Trial, Parameters]:
        if self._first:
            return self._take(self._first.pop(0))
        sampler = self.search.sampler if attempt < ATTEMPTS // 2 else "random"  # a sampler may repeat its optimum
        number = len(self._asked)
        text = f"{self.search.seed}:{number}:{attempt}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        point = self._point(sampler, number + attempt, seed)
        if point is not None:
            return self._take(point)
        self.study.sampler = _sampler(sampler, self.search.seed if sampler == "sobol" else seed)
        return self._ask_study()

    def _point(self, sampler: str, number: int, seed: int) -> Parameters | None:
        """The proposal of this program's own sampler; None where Optuna's sampler proposes."""
        self._known = None
        if sampler == "grid":
            return _on_grid(self.spec.space, number)
        if sampler != "auto":
            return None
        results = [
            (parameters, values)
            for number, (_, parameters) in enumerate(self._asked[: self._told])
            if (values := self._results[number]) is not None
        ]
        if len(results) < FEWEST["auto"]:
            return spread(self._cube, number, self.search.seed)
        if len(results) > self.most_modelled:
            return None
        awaited = [p for n, (_, p) in enumerate(self._asked) if n >= self._told or self._results[n] is None]
        self._known = known(self.search, self._anchors, results, awaited)
        return propose(self._cube, self._known, seed)

    def _has_converged(self, parameters: Parameters) -> bool:
        """Whether a search that ends by itself has come to its end: the best proposal promises too little."""
        if self.search.until != "converged" or self._known is None or len(self._known.results) < FEWEST_TO_CONVERGE:
            return False
        return gain_share(self._cube, self._known, parameters) < self.search.converged_below

    def _take(self, parameters: Parameters) -> tuple[optuna.Trial, Parameters]:
        """A trial of the study with these parameters; fields that do not act have any value in the study."""
        self.study.enqueue_trial(acting(self.spec.space, self.spec.adapt, parameters))
        self.study.sampler = RandomSampler(seed=len(self._asked))
        return self._ask_study()

    def _ask_study(self) -> tuple[optuna.Trial, Parameters]:
        trial = self.study.ask(self.distributions)
        return trial, self._settled(trial.params)

    def _settled(self, parameters: Parameters) -> Parameters:
        return settled(self.spec.space, self.spec.adapt, parameters)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of a dimension, both ends included. Optuna has no geometric grid, so that becomes choices."""
    if dimension.choices is not None or (dimension.log and dimension.step is not None):
        return CategoricalDistribution(dimension.values())
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None and high is not None
    if dimension.kind == "int":
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def _on_grid(space: Space, number: int) -> Parameters:
    """Point `number` of a grid, in an order that visits all of the grid before a point comes again, evenly spread."""
    values = [dimension.values() for dimension in space.values()]
    size = math.prod(map(len, values))
    stride = next(n for n in itertools.count(max(round(0.618 * size), 1)) if math.gcd(n, size) == 1)
    place, point = number * stride % size, []
    for of_field in reversed(values):
        place, index = divmod(place, len(of_field))
        point.append(of_field[index])
    return dict(zip(space, reversed(point), strict=True))


def _sampler(name: str, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe" | "auto":  # `auto` has given the study a constraint
                return TPESampler(seed=seed, multivariate=True, constant_liar=True)
            case "gp":
                return GPSampler(seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=FEWEST["nsga2"])
            case "sobol":
                return QMCSampler(seed=seed, scramble=True)
            case _:
                return RandomSampler(seed=seed)
