"""Places of values on the axes of searched parameters."""

import numpy as np
import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report.axes import Axis, objective, searched
from search.report.files import load


@pytest.mark.parametrize(
    ("axis", "values", "places"),
    [
        (Axis("q", 0.0, 2.0), [0.0, 0.5, 2.0, 9.0, None], [0.0, 0.25, 1.0, 1.0, np.nan]),
        (Axis("k", 2.0, 200.0, log=True), [2, 20, 200, None], [0.0, 0.5, 1.0, np.nan]),
        (Axis("c", 0.0, 1.0, names=("a", "null", "8")), ["a", "", 8.0, "other"], [0.0, 0.5, 1.0, np.nan]),
        (Axis("one", 3.0, 3.0), [3.0], [0.0]),
    ],
)
def test_positions_run_from_the_low_to_the_high_end(axis, values, places):
    np.testing.assert_allclose(axis.positions(pd.Series(values, dtype=object)), places)


def test_features_of_three_choices_are_equally_far_apart():
    given = pd.Series(["a", "b", "c"])
    apart = Axis("c", 0.0, 1.0, names=("a", "b", "c")).features(given)
    assert np.linalg.norm(apart[0] - apart[1]) == pytest.approx(np.linalg.norm(apart[0] - apart[2])) == pytest.approx(1)
    assert Axis("q", 0.0, 1.0).features(pd.Series([0.25, np.nan])).tolist() == [[0.25], [0.5]]


def test_ticks_name_both_ends_and_the_middle():
    assert Axis("k", 2.0, 200.0, log=True).ticks() == [(0.0, "2"), (0.5, "20"), (1.0, "200")]
    assert Axis("c", 0.0, 1.0, names=("x", "y")).ticks() == [(0.0, "x"), (1.0, "y")]
    assert objective("HR@10", pd.Series([0.3, 0.1])).ticks()[0] == (0.0, "0.1")


def test_the_axes_of_a_search_are_those_of_its_space(tmp_path):
    files = made_up_files()
    files["spec.yaml"]["space"]["admit"] = {"choices": ["confident", None, True, 2]}
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        files[name]["admit"] = "confident"
    found = searched(load(write(tmp_path / "run", files)))
    assert (found["top_k"].low, found["top_k"].high, found["top_k"].log) == (2.0, 500.0, True)
    assert not found["entropy_quantile"].log and found["admit"].names == ("confident", "null", "True", "2")
