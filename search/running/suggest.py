"""Which configuration comes next: the only file that knows Optuna.

Suggestion n rests on the results of suggestions 0..n-L alone, and its sampler is seeded anew for each n. L is one and a
half times the concurrency C, since with L = C one slow trial would leave the other workers idle. The sequence therefore
depends on the seed and on C, not on which trial happened to end first, and asking again for the trials of a journal
rebuilds the study of an interrupted search.
"""

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.dimension import Dimension
from search.spec import Spec, first_points

ATTEMPTS = 20  # to draw a configuration that was not suggested before
Parameters = dict[str, Any]


class Suggestions:
    """The study of one search; `ask` and `tell` number its suggestions from 0."""

    def __init__(self, spec: Spec, concurrency: int):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search, self._lag = spec.search, concurrency + concurrency // 2
        self.distributions = {name: distribution(dimension) for name, dimension in spec.space.items()}
        self.study = optuna.create_study(directions=["maximize"] * 2, sampler=RandomSampler())
        self._first = first_points(spec)  # enqueued one by one, so that a recorded trial can come before the next
        self._asked: list[tuple[optuna.Trial, Parameters]] = []
        self._results: dict[int, Sequence[float] | None] = {}
        self._told = 0

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
            self.study.enqueue_trial(dict(recorded))
            trial, parameters = self._draw(attempt=0)
        if trial is None:
            return None
        self._asked.append((trial, parameters))
        return parameters

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Notes the objectives of suggestion `number`, None if it failed. The study is told in the order of numbers."""
        self._results[number] = values

    def tell_rest(self) -> None:
        """Tells the study all results that it has not been told."""
        for number in range(self._told, len(self._asked)):
            if number in self._results:
                self._tell_study(number)

    def _due(self) -> int:
        return max(0, len(self._asked) - self._lag + 1)

    def _tell_study(self, number: int) -> None:
        values = self._results[number]
        self.study.tell(self._asked[number][0], values, state=TrialState.FAIL if values is None else None)
        self._told = number + 1

    def _suggest(self) -> tuple[optuna.Trial | None, Parameters]:
        known = [parameters for _, parameters in self._asked]
        for attempt in range(ATTEMPTS):
            if self._first:
                self.study.enqueue_trial(self._first.pop(0))
            trial, parameters = self._draw(attempt)
            if parameters not in known:
                return trial, parameters
            self.study.tell(trial, state=TrialState.FAIL)
        left = next((point for point in self._grid() if point not in known), None)
        if left is None:
            return None, {}
        self.study.enqueue_trial(left)
        return self._draw(ATTEMPTS)

    def _grid(self) -> Iterator[Parameters]:
        """All configurations of a space of choices, integers and steps, and none of a continuous space."""
        values = [_values(distribution) for distribution in self.distributions.values()]
        if all(values):
            yield from (dict(zip(self.distributions, point, strict=True)) for point in itertools.product(*values))

    def _draw(self, attempt: int) -> tuple[optuna.Trial, Parameters]:
        sampler = self.search.sampler if attempt < ATTEMPTS // 2 else "random"  # a sampler may repeat its optimum
        text = f"{self.search.seed}:{len(self._asked)}:{attempt}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        self.study.sampler = _sampler(sampler, self.search.seed if sampler == "sobol" else seed)
        trial = self.study.ask(self.distributions)
        return trial, dict(trial.params)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of a dimension, both ends included."""
    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None and high is not None
    if dimension.kind == "int":
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    """The values of a distribution, none if they are continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + n * distribution.step for n in range(steps + 1)]
    return ()


def _sampler(name: str, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, constant_liar=True)
            case "gp":
                return GPSampler(seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=16)
            case "sobol":
                return QMCSampler(seed=seed, scramble=True)
            case _:
                return RandomSampler(seed=seed)
