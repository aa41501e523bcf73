"""The replay of searches on the table of measurements."""

import numpy as np
import pytest

from search.selection.pareto import hypervolume
from search.spec import load
from tests.benchmarks import measured_table, search

SPEC = load(measured_table.SPACE)


def test_the_table_holds_configurations_of_the_space_and_the_anchors() -> None:
    table, anchors = measured_table.read()
    assert len(table) > 300 and len(anchors) == 7
    for row in table.to_dict("records"):
        assert all(dimension.contains(row[key]) for key, dimension in SPEC.space.items())
    assert anchors["none"]["filter_rate"] == 1 and anchors["all"]["filter_rate"] == 0


@pytest.mark.parametrize("label", search.SAMPLERS)
def test_every_trial_is_another_row_of_the_table(label: str) -> None:
    table, _ = measured_table.read()
    ended = search.replay(SPEC, label, 2, 0, 12, measured_table.TABLE)
    rows = {tuple(row) for row in table[["hr_at_10", "filter_rate"]].to_numpy()}
    assert ended.shape == (12, 2) and {tuple(row) for row in ended} <= rows
    assert len({tuple(row) for row in ended}) == 12
    assert (search.replay(SPEC, label, 2, 0, 12, measured_table.TABLE) == ended).all()


def test_the_whole_table_is_the_truth() -> None:
    truth = search.Truth(SPEC, measured_table.TABLE)
    assert truth.share(truth.points) == 1 and truth.lost(truth.points) == 0
    some = truth.points[:40]
    expected = hypervolume(some, truth.corner) / hypervolume(truth.points, truth.corner)
    assert truth.share(some) == pytest.approx(expected) and 0 < expected < 1
    assert truth.lost(np.array([[0.0, 1.0]])) == pytest.approx(truth.points[truth.points[:, 0] >= truth.floor, 1].max())
