"""Random skipping along a front: its rates and their interpolation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.baselines import random_at
from search.selection import chance


@pytest.mark.parametrize(
    ("of_front", "points", "rates"),
    [
        ([0.123, 0.5, 0.876], 4, [0.12, 0.37, 0.63, 0.88]),
        ([0.3], 4, [0.3]),
        ([0.304], 4, [0.3, 0.31]),
        ([0.2, 0.4], 1, [0.3]),
        ([0.0, 1.0], 3, [0.01, 0.5, 0.99]),
        ([0.0], 4, []),
        ([1.0], 4, []),
        ([0.2, 0.4], 0, []),
        ([], 4, []),
    ],
)
def test_rates(of_front: list[float], points: int, rates: list[float]) -> None:
    assert chance.rates(of_front, points) == rates


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(2, 30))
def test_rates_reach_over_the_front_in_whole_percents(of_front: list[float], points: int) -> None:
    rates = chance.rates(of_front, points)
    assert len(rates) <= points and rates == sorted(set(rates))
    assert all(0 < rate < 1 and random_at(rate) == f"random {round(100 * rate)}%" for rate in rates)
    inside = [rate for rate in of_front if 0.01 <= rate <= 0.99]
    assert not inside or (rates[0] <= min(inside) + 1e-9 and max(inside) - 1e-9 <= rates[-1])


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
        (0.5, [0.1 / 0.6, 0, 0.5 / 0.6, 0]),
        (1.0, [1, 0, 0, 0]),
        (0.1, None),
        (1.1, None),
    ],
)
def test_neighbours(at: float, weights: list[float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chance, "MAX_GAP", 1.0)
    found = chance.neighbours([1.0, 0.2, 0.4, np.nan], at)
    assert (found is None) is (weights is None)
    if found is not None:
        assert found == pytest.approx(weights)


def test_a_wide_gap_is_not_interpolated_over() -> None:
    """The curve of random skipping is concave: any gate would beat a straight line from 70% to 99%."""
    assert chance.neighbours([0.0, 0.14, 0.30], 0.1) == pytest.approx([2 / 7, 5 / 7, 0])
    assert chance.neighbours([0.0, 0.14, 0.30], 0.2) is None


def test_between_no_points_there_is_nothing() -> None:
    assert chance.neighbours([], 0.5) is None and chance.neighbours([np.nan], 0.5) is None


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("random", True), ("random 25%", True), ("all", True), ("none", True), ("published", False),
        ("randomised", False),
    ],
)  # fmt: skip
def test_points_of_the_curve(name: str, there: bool) -> None:
    assert chance.on_curve(name) is there


def test_measured_rates_stand_for_those_beside_them() -> None:
    assert chance.rates([0.0, 1.0], 3, [0.3, 0.5]) == [0.01, 0.3, 0.5, 0.99]
    assert chance.rates([0.4, 0.6], 3, [0.1, 0.52, 0.9]) == [0.4, 0.52, 0.6]
    assert chance.rates([], 3, [0.5, 0.1]) == [0.1, 0.5] and chance.rates([], 0, [0.5]) == []
