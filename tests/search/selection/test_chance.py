"""The curve of random skipping and its interpolation."""

import numpy as np
import pytest

from search.selection import chance


def test_the_gate_s_rate_leaves_out_samples_with_nothing_to_learn() -> None:
    assert chance.gate_rate({"filter_rate": 0.3}) == 0.3
    assert chance.gate_rate({"filter_rate": 0.8, "filtered_by_seen": 0.6}) == pytest.approx(0.5)
    assert chance.gate_rate({"filter_rate": 1.0, "filtered_by_seen": 1.0}) == 1
    assert chance.gate_rate({"filter_rate": 0.6, "filtered_by_seen": 0.6 + 1e-12}) == 0


@pytest.mark.parametrize(
    ("at", "weights"),
    [
        (0.2, [0, 1, 0, 0]),
        (0.3, [0, 0.5, 0.5, 0]),
        (0.35, [0, 0.25, 0.75, 0]),
        (0.404, [0, 0, 1, 0]),
        (0.196, [0, 1, 0, 0]),
        (0.5, [0.1 / 0.6, 0, 0.5 / 0.6, 0]),
        (1.0, [1, 0, 0, 0]),
        (0.1, None),
        (1.1, None),
    ],
)
def test_neighbours(at: float, weights: list[float] | None) -> None:
    found = chance.neighbours([1.0, 0.2, 0.4, np.nan], at, 1.0)
    assert (found is None) is (weights is None)
    if found is not None:
        assert found == pytest.approx(weights)


def test_a_wide_gap_is_not_interpolated_over() -> None:
    """The curve of random skipping is concave: any gate would beat a straight line from 70% to 99%."""
    assert chance.neighbours([0.0, 0.14, 0.30], 0.1, chance.MAX_GAP) == pytest.approx([2 / 7, 5 / 7, 0])
    assert chance.neighbours([0.0, 0.14, 0.30], 0.2, chance.MAX_GAP) is None


def test_between_no_points_there_is_nothing() -> None:
    assert chance.neighbours([], 0.5, 1.0) is None and chance.neighbours([np.nan], 0.5, 1.0) is None


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("random", True), ("random 25%", True), ("all", True), ("none", True), ("published", False),
        ("randomised", False),
    ],
)  # fmt: skip
def test_points_of_the_curve(name: str, there: bool) -> None:
    assert chance.on_curve(name) is there
