"""Places of texts and lines in the plot of quality over skipped passes."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up_search import made_up_files

from search.report import pareto_plot


def points(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    """Baselines by name, HR@10 and filter rate on test and filter rate on validation, where HR@10 is 0.01 higher."""
    frame = pd.DataFrame(rows, columns=["trial_id", "test_hr_at_10", "test_filter_rate", "valid_filter_rate"])
    return frame.assign(valid_hr_at_10=frame["test_hr_at_10"].fillna(0.08) + 0.01)


def test_names_that_would_overlap_become_one_text_inside_the_plot():
    frame = points(("none", 0.0795, 1.0, 1.0), ("naive", 0.0796, 0.99, 0.99), ("all", 0.0894, 0.0, 0.0))
    placed = {text: (x, y, align) for x, y, text, align in pareto_plot._labels(frame, "hr_at_10")}
    assert placed == {"all": (0.0, 0.0894, "center"), "naive, none": (99.0, 0.0795, "right")}


def test_a_name_stands_below_its_interval_and_on_validation_where_test_was_not_measured():
    frame = points(("all", 0.0894, 0.0, 0.0), ("random", math.nan, math.nan, 0.5))
    frame["test_hr_at_10_low"], frame["test_hr_at_10_high"] = 0.0870, 0.0910
    placed = {text: (x, y) for x, y, text, _ in pareto_plot._labels(frame, "hr_at_10")}
    assert placed == {"all": (0.0, pytest.approx(0.0870)), "random": (50.0, pytest.approx(0.09))}


def test_lines_join_both_measurements_of_a_row():
    frame = points(("a", 0.08, 0.5, 0.4), ("b", math.nan, math.nan, 0.2))
    x, y = pareto_plot._joins(frame, "hr_at_10")
    np.testing.assert_allclose(x, [40, 50, math.nan])
    np.testing.assert_allclose(y, [0.09, 0.08, math.nan])


def test_random_skipping_is_a_curve_only_where_it_was_measured_along_the_front():
    baselines = made_up_files()["baselines.csv"]
    curves, others = pareto_plot._random_skipping(baselines, "hr_at_10")
    along = {"all", "random", "random 10%", "random 36%", "random 62%", "random 88%", "none"}
    assert len(curves) == 2
    for curve in curves.values():
        assert set(curve["trial_id"]) == along and curve["x"].is_monotonic_increasing
    assert set(others["trial_id"]) == {"none", "all", "random", "naive", "published"}
    alone = baselines[~baselines["trial_id"].str.startswith("random ")]
    assert pareto_plot._random_skipping(alone, "hr_at_10")[0] == {}
