"""The replay of searches on tables of measurements."""

import numpy as np
import pytest

from search.selection.pareto import hypervolume
from search.spec.space import acting, settled
from tests.benchmarks.replay import SAMPLERS, SPACE, TABLE, Measured, TableCube, Truth, replay
from tests.benchmarks.search import SPACES, measured

MEASURED = Measured.read(SPACE, TABLE)


@pytest.mark.parametrize("name", SPACES)
def test_a_table_holds_configurations_of_its_space_and_the_anchors(name: str) -> None:
    table = measured(name)
    space, fixed = table.spec.space, table.spec.adapt
    assert len(table.anchors) == 7
    for row in table.table.to_dict("records"):
        parameters = {key: row[key] for key in space}
        assert parameters == settled(space, fixed, parameters)
        assert all(space[key].contains(value) for key, value in acting(space, fixed, parameters).items())
    assert table.anchors["none"]["filter_rate"] == 1
    assert table.anchors["all"]["filter_rate"] <= table.table["filter_rate"].min()


@pytest.mark.parametrize("label", SAMPLERS)
def test_every_trial_is_another_row_of_the_table(label: str) -> None:
    ended = replay(MEASURED, label, 2, 0, 12)
    assert len({tuple(row) for row in ended}) == 12
    assert {tuple(row) for row in ended} <= {tuple(row) for row in MEASURED.values}
    assert (replay(MEASURED, label, 2, 0, 12) == ended).all()


def test_the_genetic_algorithm_has_parents_in_a_replay() -> None:
    later = {label: replay(MEASURED, label, 1, 0, 24)[19:].tolist() for label in ("random", "nsga2")}
    assert later["random"] != later["nsga2"]


def test_a_table_is_a_cube_of_its_rows() -> None:
    cube = TableCube(MEASURED)
    points = np.random.default_rng(0).random((20, len(cube)))
    for point, snapped in zip(points, cube.snapped(points), strict=True):
        away = np.abs(cube.rows_at - point).sum(axis=1)
        assert np.abs(snapped - point).sum() == pytest.approx(away.min())
        assert cube.points([cube.parameters(point)])[0] == pytest.approx(snapped)


def test_the_whole_table_is_the_truth() -> None:
    truth = Truth(MEASURED)
    assert truth.share(truth.points) == truth.beyond(truth.points) == 1 and truth.lost(truth.points) == 0
    some = truth.points[::2]
    expected = hypervolume(some, truth.corner) / hypervolume(truth.points, truth.corner)
    assert truth.share(some) == pytest.approx(expected) and 0 < expected < 1
    assert truth.lost(np.array([[0.0, 1.0]])) == pytest.approx(truth.points[truth.points[:, 0] >= truth.floor, 1].max())


def test_what_the_anchors_cover_is_free() -> None:
    truth = Truth(MEASURED)
    assert truth.beyond(truth.anchors) == 0 < truth.free < 1
    both = np.concatenate([truth.anchors, truth.points[::2]])
    covered = hypervolume(both, truth.corner) / hypervolume(np.concatenate([truth.anchors, truth.points]), truth.corner)
    assert truth.beyond(truth.points[::2]) == pytest.approx((covered - truth.free) / (1 - truth.free))
