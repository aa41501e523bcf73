"""Short constructors of specs and dimensions."""

from typing import Any

from search.spec import SearchConfig, Spec
from search.spec.dimension import Dimension


def make(**space: Dimension) -> Spec:
    return Spec(name="x", space=space, search=SearchConfig(trials=64))


def integers(low: int, high: int, **more: Any) -> Dimension:
    return Dimension(kind="int", low=low, high=high, **more)


def floats(low: float, high: float, **more: Any) -> Dimension:
    return Dimension(kind="float", low=low, high=high, **more)
