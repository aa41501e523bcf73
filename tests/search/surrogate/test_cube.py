"""The unit cube: every value has its stretch of an edge, and comes back from its coordinate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.config import AdaptConfig
from search.spec.dimension import Dimension
from search.surrogate.cube import Axis, Cube

DIMENSIONS = [
    Dimension(kind="int", low=2, high=500, log=True),
    Dimension(kind="int", low=1, high=4),
    Dimension(kind="int", low=0, high=30, step=10),
    Dimension(kind="float", low=0.05, high=1.0),
    Dimension(kind="float", low=1e-6, high=0.1, log=True),
    Dimension(kind="float", low=0.0, high=0.5, step=0.1),
    Dimension(kind="float", low=0.001, high=1.0, log=True, step=10),
    Dimension(kind="choices", choices=("a", "b")),
    Dimension(kind="choices", choices=(10, 50, None)),
    Dimension(kind="choices", choices=(True, False)),
]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
@given(coordinate=st.floats(0, 1))
def test_every_coordinate_is_a_value_whose_own_coordinate_is_in_the_cube(
    dimension: Dimension, coordinate: float
) -> None:
    axis = Axis(dimension)
    value = axis.value(coordinate)
    assert dimension.contains(value)
    back = axis.coordinate(value)
    assert -1e-9 <= back <= 1 + 1e-9 and axis.value(back) == value


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
@given(coordinate=st.floats(0, 1))
def test_a_snapped_coordinate_is_that_of_its_value(dimension: Dimension, coordinate: float) -> None:
    axis = Axis(dimension)
    snapped = axis.snapped(np.array([coordinate]))[0]
    assert snapped == pytest.approx(axis.coordinate(axis.value(coordinate)), abs=1e-5)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
def test_the_edge_covers_all_values(dimension: Dimension) -> None:
    seen = [Axis(dimension).value(coordinate) for coordinate in np.linspace(0, 1, 5001)]
    assert {*dimension.values()} <= {*seen}
    if 0 < len(dimension.values()) < 10 and not (dimension.log and dimension.step is None):
        counts = [seen.count(value) for value in dimension.values()]
        assert max(counts) - min(counts) <= 2  # equally likely


def test_unordered_choices_lie_equally_far_apart() -> None:
    axis = Axis(Dimension(kind="choices", choices=("a", "b", "c")))
    features = axis.features(np.array([axis.coordinate(value) for value in ("a", "b", "c")]))
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    assert distances == pytest.approx(1 - np.eye(3))


def test_a_field_that_does_not_act_has_one_coordinate() -> None:
    space = {
        "target": Dimension(kind="choices", choices=("weights", "state")),
        "fisher_alpha": Dimension(kind="float", low=0.1, high=10.0, log=True, when={"target": ("weights",)}),
    }
    cube = Cube(space, AdaptConfig())
    snapped = cube.snapped(np.array([[0.9, 0.1], [0.9, 0.8], [0.1, 0.8]]))
    assert (snapped[0] == snapped[1]).all() and snapped[2, 1] == pytest.approx(0.8)
    assert cube.points([{"target": "state", "fisher_alpha": 0.0}])[0, 1] == 0.5


@pytest.mark.parametrize(("target", "expected"), [("weights", 0.8), ("state", 0.5)])
def test_a_condition_may_be_about_a_fixed_field(target: Any, expected: float) -> None:
    space = {"fisher_alpha": Dimension(kind="float", low=0.1, high=10.0, when={"target": ("weights",)})}
    assert Cube(space, AdaptConfig(target=target, weighting="none")).snapped(np.array([[0.8]]))[0, 0] == expected


def test_a_value_outside_a_narrowed_range_keeps_its_place() -> None:
    assert Axis(Dimension(kind="float", low=0.5, high=1.0)).coordinate(0.25) == -0.5
    assert Axis(Dimension(kind="float", low=0.0, high=1.0, step=0.5)).coordinate(0.3) == 0.5
