import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.selection import pareto
from search.selection.pareto import hypervolume, non_dominated

# A small grid makes ties and exact duplicates common.
GRID_POINTS = st.lists(st.tuples(st.integers(-2, 6), st.integers(-2, 6)), max_size=30).map(
    lambda points: np.array(points, dtype=float).reshape(-1, 2)
)


def literal_front(values):
    """The definition: no other point is at least as good in both and better in one, and no earlier one is equal."""
    keep = []
    for i, mine in enumerate(values):
        beaten = any((other >= mine).all() and (other > mine).any() for other in values)
        repeated = any((values[j] == mine).all() for j in range(i))
        keep.append(not beaten and not repeated)
    return np.array(keep, dtype=bool)


def area_by_inclusion_exclusion(values, reference):
    """Union of rectangles by counting unit cells of the integer grid, a route that knows nothing of fronts."""
    cells = set()
    for x, y in values.astype(int):
        cells |= {(i, j) for i in range(reference[0], x) for j in range(reference[1], y)}
    return len(cells)


@given(GRID_POINTS)
def test_front_is_the_literal_definition(values):
    assert non_dominated(values).tolist() == literal_front(values).tolist()


@given(GRID_POINTS, st.randoms())
def test_front_does_not_depend_on_order(values, random):
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    front = {tuple(point) for point in values[non_dominated(values)]}
    again = values[shuffled]
    assert {tuple(point) for point in again[non_dominated(again)]} == front


def test_first_of_equal_points_stays():
    assert non_dominated([[1, 2], [2, 1], [1, 2], [2, 1], [0, 0]]).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], [[np.inf, 1.0]], [[1.0], [2.0]], [1.0, 2.0]])
def test_front_refuses_what_is_no_finite_point(bad):
    with pytest.raises(ValueError, match=r"finite|shape \[N, K\]"):
        non_dominated(bad)


@given(GRID_POINTS, st.tuples(st.integers(-2, 2), st.integers(-2, 2)))
def test_hypervolume_equals_counted_cells(values, reference):
    assert hypervolume(values, reference) == area_by_inclusion_exclusion(values, reference)


GRID_POINTS_3 = st.lists(st.tuples(*[st.integers(-1, 4)] * 3), max_size=20).map(
    lambda points: np.array(points, dtype=float).reshape(-1, 3)
)


@given(GRID_POINTS_3)
def test_a_front_of_three_objectives_is_the_literal_definition(values):
    assert non_dominated(values).tolist() == literal_front(values).tolist()


@given(GRID_POINTS_3, st.tuples(*[st.integers(-1, 1)] * 3))
def test_a_volume_equals_counted_cells(values, reference):
    cells = set()
    for point in values.astype(int):
        cells |= set(itertools.product(*(range(low, high) for low, high in zip(reference, point, strict=True))))
    assert hypervolume(values, reference) == len(cells)


def test_hypervolume_closed_forms():
    assert hypervolume([]) == 0
    assert hypervolume([[0.5, 0.4]]) == pytest.approx(0.2)
    assert hypervolume([[3, 1], [1, 3], [2, 2], [1, 1]]) == 6
    assert hypervolume([[3, 1], [1, 3]], reference=(1, 1)) == 0
    x = np.linspace(0, 1, 20_001)
    assert hypervolume(np.column_stack([x, np.sqrt(1 - x**2)])) == pytest.approx(np.pi / 4, abs=1e-4)


choose = functools.partial(pareto.choose, metric="NDCG@10")
QUALITY = [0.0900, 0.0897, 0.0890, 0.0700]
FILTER_RATE = [0.00, 0.30, 0.60, 0.99]


def test_choice_is_the_most_filtering_point_within_tolerance():
    assert [choose(QUALITY, FILTER_RATE, t).index for t in (0.0, 0.005, 0.02, 0.5)] == [0, 1, 2, 3]


def test_choice_includes_the_bound():
    assert choose(QUALITY, FILTER_RATE, 0.0).reason.startswith("It skips 0.0% of the passes and is the only point")


def test_choice_measures_against_the_better_of_front_and_reference():
    assert choose(QUALITY, FILTER_RATE, 0.005, adapting_on_all=0.05).index == 1
    choice = choose(QUALITY, FILTER_RATE, 0.005, adapting_on_all=0.0904)
    assert choice.index == 0
    assert "adapting on every sample" in choice.reason
    assert "(99.5% of 0.0900, the front's best)" in choose(QUALITY, FILTER_RATE, 0.005, adapting_on_all=0.09).reason


def test_choice_falls_back_to_best_quality():
    choice = choose(QUALITY, FILTER_RATE, 0.005, adapting_on_all=0.2)
    assert choice.index == 0
    assert choice.reason == (
        "No point's NDCG@10 on validation reaches 0.1990 (99.5% of 0.2000, adapting on every sample), so the point of "
        "highest NDCG@10 is chosen: 0.0900 with 0.0% of the passes skipped."
    )


def test_choice_breaks_ties_by_the_other_objective():
    assert choose([0.90, 0.95, 0.92], [0.5, 0.5, 0.5], 0.1).index == 1
    assert choose([0.5, 0.5], [0.1, 0.2], 0.0, adapting_on_all=0.9).index == 1


def test_reason_states_the_numbers():
    assert choose(QUALITY, FILTER_RATE, 0.005).reason == (
        "It skips 30.0% of the passes, the most of the 2 points whose NDCG@10 on validation is at least 0.0895 (99.5% "
        "of 0.0900, the front's best). Its own NDCG@10 is 0.0897."
    )


@pytest.mark.parametrize(
    ("quality", "rate", "tolerance"), [([], [], 0.1), ([1.0], [0.5], 1.0), ([1.0], [0.5], -0.1), ([np.nan], [0.5], 0.1)]
)
def test_choice_refuses_nonsense(quality, rate, tolerance):
    with pytest.raises(ValueError, match=r"tolerance in|finite"):
        choose(quality, rate, tolerance)


def test_a_point_at_the_floor_is_within_the_tolerance():
    choice = choose([0.5, 0.4375, 0.4374], [0.1, 0.2, 0.3], 0.125)  # an eighth less, exact in binary
    assert choice.index == 1 and "at least 0.4375 (87.5% of 0.5000," in choice.reason
