"""The range or choices of a searched hyperparameter as plain data, checked against its field of AdaptConfig.

The options of a gate of the user's own have no field: search/spec/own_code.py checks them against its class.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from etarec.config import AdaptConfig
from etarec.document import quoted
from etarec.document_schema import Location, Schema
from search.fields import option_of

Kind = Literal["int", "float", "choices"]
Value = str | bool | int | float | None
Number = int | Annotated[float, Field(allow_inf_nan=False)]

MOST_VALUES = 1_000_000  # of a range with steps; Optuna and `values` hold them all

_FIELDS = Schema(TypeAdapter(AdaptConfig).json_schema())
_OF_FIELD: dict[str, TypeAdapter[Any]] = {  # of the field alone: rules between fields are for search/spec/space.py
    name: TypeAdapter(hint, config=ConfigDict(strict=True))
    for name, hint in get_type_hints(AdaptConfig, include_extras=True).items()
}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Dimension:
    """A range with both ends included, or a list of choices."""

    kind: Kind = Field(description="follows from the field of AdaptConfig, never written in a file")
    low: Number | None = Field(default=None, description="smallest value")
    high: Number | None = Field(default=None, description="largest value")
    log: bool = Field(default=False, description="search on a logarithmic scale")
    step: Number | None = Field(
        default=None,
        description="distance between values, from `low` upwards; on a log scale their ratio; null: all values",
    )
    choices: tuple[Value, ...] | None = Field(default=None, description="the values, instead of a range")
    when: dict[str, tuple[Value, ...]] = Field(
        default_factory=dict,
        description="values of other fields with which this one acts; elsewhere it has the value in `adapt`",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problem = self._choices_problem() if self.kind == "choices" else self._range_problem()
        if problem:
            raise ValueError(problem)
        return self

    def __str__(self) -> str:
        """2 to 500, log scale, where target is weights"""
        conditions = (f"{key} is {' or '.join(map(str, values))}" for key, values in self.when.items())
        return self._extent() + (f", where {' and '.join(conditions)}" if self.when else "")

    def _extent(self) -> str:
        if self.choices is not None:
            return "one of " + " | ".join(map(quoted, self.choices))
        factor = f" in factors of {self.step}" if self.log and self.step is not None else ""
        return f"{self.low} to {self.high}" + (f", log scale{factor}" if self.log else "")

    def _choices_problem(self) -> str | None:
        if self.log or not self.low is self.high is self.step is None:
            also = ", with choices it has no low, high, log or step" if self.choices else ""
            return f"expected {{choices: [...]}}{also or ': this key has no numeric range'}"
        if not self.choices:
            return "expected {choices: [...]} with at least one value"
        repeated = [value for i, value in enumerate(self.choices) if value in self.choices[:i]]
        return f"choices names {quoted(repeated[0])} more than once" if repeated else None

    def _range_problem(self) -> str | None:
        if self.low is None or self.high is None or self.choices is not None:
            return "expected {low: ..., high: ...} or {choices: [...]}"
        if not self.low < self.high:
            return f"low ({quoted(self.low)}) must be below high ({quoted(self.high)})"
        if self.log and self.low <= 0:
            return f"a log scale needs low above 0, given {quoted(self.low)}"
        if self.log and self.step is not None and not 1 < self.step <= self.high / self.low:
            return f"given step {quoted(self.step)}, expected a ratio above 1 and at most high / low on a log scale"
        if not self.log and self.step is not None and not 0 < self.step <= self.high - self.low:
            return f"given step {quoted(self.step)}, expected a step above 0 and at most high - low"
        if self.step is not None and self._steps_to(self.high) > MOST_VALUES:
            return f"given step {quoted(self.step)}, expected at most {MOST_VALUES:,} steps between low and high"
        if self.kind == "int" and not all(isinstance(number, int) for number in (self.low, self.high, self.step or 1)):
            return "low, high and step must be integers for this key"
        return None

    def contains(self, value: Value) -> bool:
        """Whether a search of this dimension can propose `value`."""
        if self.choices is not None:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else int | float):
            return False
        assert self.low is not None and self.high is not None
        if not self.low <= value <= self.high:
            return False
        steps = self._steps_to(value)
        return math.isclose(steps, round(steps), rel_tol=0, abs_tol=1e-6)

    def middle(self) -> Value:
        """The value halfway (geometrically on a log scale), or the middle one of the choices."""
        if self.choices is not None:
            return self.choices[len(self.choices) // 2]
        assert self.low is not None and self.high is not None
        half = math.sqrt(self.low) * math.sqrt(self.high) if self.log else self.low + (self.high - self.low) / 2
        if self.step is not None:
            half = self._at(int(self._steps_to(half) + 1e-9))
        return min(max(round(half) if self.kind == "int" else half, self.low), self.high)

    def values(self) -> Sequence[Value]:
        """All values in their order; none of a continuous range."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        if self.step is not None:
            return [self._at(n) for n in range(int(self._steps_to(self.high) + 1e-9) + 1)]
        return range(int(self.low), int(self.high) + 1) if self.kind == "int" else ()

    def _steps_to(self, value: float) -> float:
        """How many steps `value` lies above `low`; 0 in a range without steps."""
        assert self.low is not None
        if self.step is None:
            return 0.0
        return math.log(value / self.low) / math.log(self.step) if self.log else (value - self.low) / self.step

    def _at(self, steps: int) -> Number:
        assert self.low is not None and self.step is not None
        return self.low * self.step**steps if self.log else self.low + self.step * steps


def form_problems(key: str, form: dict[str, Any]) -> Iterator[tuple[Location, str]]:
    """Problems of the values in `form` that AdaptConfig's field `key` does not allow, by their places in `form`."""
    if option_of(key) is not None:
        yield from _condition_problems(form.get("when"))
        return
    ends = ("low", "high") if _kind(key) != "choices" else ()
    places: list[tuple[Location, Any]] = [((end,), form[end]) for end in ends if end in form]
    if isinstance(choices := form.get("choices"), list):
        places += [(("choices", index), choice) for index, choice in enumerate(choices)]
    for place, value in places:
        try:
            _legal(key, value)
        except ValueError:
            expected = _FIELDS.expected((key,))
            wanted = expected.removesuffix(" or null") if place[0] in ends else expected
            yield place, f"given {quoted(value)}, expected {wanted}"
    yield from _condition_problems(form.get("when"))


def _condition_problems(when: Any) -> Iterator[tuple[Location, str]]:
    for key, given in when.items() if isinstance(when, dict) else ():
        if key not in _OF_FIELD:
            yield ("when", key), _FIELDS.unknown((key,))
            continue
        for value in given if isinstance(given, list) else [given]:
            try:
                _legal(key, value)
            except ValueError:
                yield ("when", key), f"given {quoted(value)}, expected {_FIELDS.expected((key,))}"


def complete(key: str, form: dict[str, Any]) -> dict[str, Any]:
    """`form` with its kind and the types of AdaptConfig's field `key` (1 becomes 1.0 in a float field)."""
    if option_of(key) is not None:
        completed = {**form, "kind": _kind_of_numbers(form)}
    else:
        completed = {**form, "kind": "choices" if "choices" in form else _kind(key)}
    for end in {"low", "high"} & form.keys():
        completed[end] = _stored(key, form[end])
    if isinstance(choices := form.get("choices"), list):
        completed["choices"] = [_stored(key, choice) for choice in choices]
    if completed["kind"] == "float" and type(form.get("step")) is int:
        completed["step"] = float(form["step"])
    if isinstance(when := form.get("when"), dict):
        completed["when"] = {other: value if isinstance(value, list) else [value] for other, value in when.items()}
    return completed


def _kind_of_numbers(form: dict[str, Any]) -> Kind:
    """The kind of an option: of integers, if all its numbers are."""
    if "choices" in form:
        return "choices"
    return "int" if all(isinstance(form.get(end, 0), int) for end in ("low", "high", "step")) else "float"


def _kind(key: str) -> Kind:
    words = _FIELDS.expected((key,)).split()
    return "int" if "integer" in words else "float" if "number" in words else "choices"


def _legal(key: str, value: Any) -> Value:
    """`value` as AdaptConfig stores it. Raises pydantic's ValidationError, a ValueError, for an illegal value."""
    kept: Value = _OF_FIELD[key].validate_python(value)
    return kept


def _stored(key: str, value: Any) -> Any:
    if option_of(key) is not None:
        return value
    try:
        return _legal(key, value)
    except ValueError:
        return value
