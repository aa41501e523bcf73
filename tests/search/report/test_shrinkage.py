"""Agreement of validation and test."""

import pandas as pd
import pytest
from made_up_search import made_up_files, write
from scipy.stats import spearmanr

from search.report import pareto_plot, shrinkage
from search.report.files import load


def points(valid, test):
    names = ["none", *(f"t{number}" for number in range(1, len(valid)))]
    return pd.DataFrame({"trial_id": names, "valid": valid, "test": test})


def test_a_gain_that_halves_in_the_same_order():
    found = shrinkage.agreement(points([1.0, 1.2, 1.4, 1.6], [2.0, 2.1, 2.2, 2.3]))
    assert (found.points, found.rank, found.remains) == (4, pytest.approx(1.0), pytest.approx(0.5))
    sentence = shrinkage.sentence(points([1.0, 1.2, 1.4, 1.6], [2.0, 2.1, 2.2, 2.3]), "hr_at_10")
    assert "rank correlation of +1.00 between validation and test." in sentence
    assert "on average 0.5 times as large on test" in sentence
    swapped = shrinkage.sentence(points([1.0, 1.2, 1.4, 1.6], [2.0, 2.2, 2.1, 2.3]), "hr_at_10")
    assert "rank correlation of +0.80 between validation and test (95%: " in swapped


def test_the_interval_shrinks_with_more_points():
    few = shrinkage.agreement(points([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]))
    many = shrinkage.agreement(points([*range(20)], [n ^ 1 for n in range(20)]))
    assert few.low < few.rank < few.high and few.low < 0 < many.low
    assert few.rank == pytest.approx(spearmanr([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]).statistic)


def test_few_or_equal_points_have_no_agreement():
    assert (
        shrinkage.agreement(points([1, 2, 3], [1, 2, 3])) is shrinkage.agreement(points([1] * 5, [*range(5)])) is None
    )
    assert shrinkage.sentence(points([1, 2], [1, 2]), "hr_at_10") == ""


def test_front_and_baselines_are_compared_without_the_curve_of_random_skipping(tmp_path):
    run = load(write(tmp_path / "run", made_up_files()))
    frames = pareto_plot.Frames(run.finished, run.front, run.baselines, str(run.chosen["trial_id"]), run.quality)
    found = shrinkage.measured(frames)
    assert set(found["trial_id"]) == {*run.front["trial_id"], "none", "all", "random", "naive", "published"}
    drawn = shrinkage.plot(frames, found, lambda name, prefix: f"{prefix}{name}")
    assert all(f"test_{name}" in drawn for name in found["trial_id"])
