"""The searched fields as a whole: which of them act in a configuration, and which of their values fit together.

A dimension with a condition (`when`) acts only where other fields have certain values. Elsewhere its field keeps the
value of the fixed configuration, so that every trial has a value for every searched field.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etarec.config import AdaptConfig
from etarec.document import quoted
from etarec.document_schema import Location
from search.fields import value_of, with_values
from search.spec.dimension import Dimension, Value

Space = Mapping[str, Dimension]
_OPENERS = {"gate", "criterion", "admit", "entropy_threshold", "min_admitted"}  # with these, K = 1 may admit somebody
MOST_COMBINATIONS = 5_000  # of choices that are checked; of a larger space, as many drawn at random


def acts(dimension: Dimension, fixed: AdaptConfig, parameters: Mapping[str, Any]) -> bool:
    """Whether the dimension's condition is met, in a configuration of `fixed` and the searched `parameters`."""
    return all(parameters.get(key, value_of(fixed, key)) in values for key, values in dimension.when.items())


def settled(space: Space, fixed: AdaptConfig, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, in which a field that does not act has the value of `fixed`."""
    return {
        key: value if acts(space[key], fixed, parameters) else value_of(fixed, key) for key, value in parameters.items()
    }


def acting(space: Space, fixed: AdaptConfig, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the fields that act."""
    return {key: value for key, value in parameters.items() if acts(space[key], fixed, parameters)}


def problems(space: Space, fixed: AdaptConfig) -> list[tuple[Location, str]]:
    """Faults of the dimensions as a whole: unclear conditions, choices that do not fit, a gate that is always shut."""
    return list(_unclear_conditions(space)) or [*_misfits(space, fixed), *_shut(space, fixed)]


def _unclear_conditions(space: Space) -> Iterator[tuple[Location, str]]:
    for key, dimension in space.items():
        for other in dimension.when:
            searched = space.get(other)
            if searched is not None and (searched.when or searched.choices is None):
                given = "has a condition of its own" if searched.when else "is searched in a range"
                yield (
                    ("space", key, "when", other),
                    f"{other} {given}; expected a fixed field, or one searched by choices and without a condition",
                )


def _misfits(space: Space, fixed: AdaptConfig) -> Iterator[tuple[Location, str]]:
    """For each broken rule, the fewest choices that break it whatever the other fields are."""
    tried = [(combination, _broken_rule(space, fixed, combination)) for combination in _combinations(space)]
    found: list[dict[str, Value]] = []
    for combination, rule in tried:
        if rule and not any(guilty.items() <= combination.items() for guilty in found):
            found.append(_fewest(combination, tried))
            where = list(found[-1])
            yield (
                ("space", *where[:1]),
                f"{_listed(found[-1])} cannot be combined ({rule}); leave out one of them, or give a field a condition "
                "such as {when: {target: weights}}",
            )


def _shut(space: Space, fixed: AdaptConfig) -> Iterator[tuple[Location, str]]:
    """The entropy of a single score is 0, and E0, a quantile of zeros, is 0 too: no entropy lies below E0."""
    searched = space.get("top_k")
    single = fixed.top_k == 1 if searched is None else searched.choices == (1,)
    by_entropy = fixed.gate == "eta" and fixed.criterion == "entropy" and not fixed.entropy_threshold
    if single and by_entropy and fixed.admit == "confident" and not fixed.min_admitted and not space.keys() & _OPENERS:
        yield (
            ("adapt" if searched is None else "space", "top_k"),
            "given 1, at which all entropies are 0 and `admit: confident` admits nobody at any quantile; expected at "
            "least 2",
        )


def _combinations(space: Space) -> Sequence[dict[str, Value]]:
    """Combinations of the fields' values: of numbers only one, since no rule between fields is about a size."""
    values = {key: _kinds(dimension) for key, dimension in space.items()}
    if math.prod(map(len, values.values())) <= MOST_COMBINATIONS:
        return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    drawn = random.Random(0)  # noqa: S311 - the same sample each time
    return [{key: drawn.choice(of_key) for key, of_key in values.items()} for _ in range(MOST_COMBINATIONS)]


def _kinds(dimension: Dimension) -> Sequence[Value]:
    values = dimension.choices or (dimension.low,)
    return values if any(isinstance(value, str | bool) for value in values) else values[:1]


def _broken_rule(space: Space, fixed: AdaptConfig, combination: Mapping[str, Any]) -> str:
    """The rule of AdaptConfig that a combination breaks, or nothing."""
    try:
        with_values(fixed, settled(space, fixed, combination))
    except ValueError as error:
        return rule_of(error)
    return ""


def rule_of(error: ValueError) -> str:
    """The sentence of a configuration's rule, without the frame that pydantic sets around it."""
    details: Any = getattr(error, "errors", list)()
    return str(details[0]["msg"]).removeprefix("Value error, ") if details else str(error)


def _fewest(broken: Mapping[str, Value], tried: Sequence[tuple[Mapping[str, Value], str]]) -> dict[str, Value]:
    """The smallest part of a broken combination with which every tried combination is broken."""
    for size in range(len(broken) + 1):
        for keys in itertools.combinations(broken, size):
            alike = [rule for other, rule in tried if all(other[key] == broken[key] for key in keys)]
            if all(alike):
                return {key: broken[key] for key in keys}
    return dict(broken)


def _listed(values: Mapping[str, Value]) -> str:
    return " and ".join(f"{key}: {quoted(value)}" for key, value in values.items()) or "these values"
