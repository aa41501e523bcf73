"""Shares of the variance against functions whose total Sobol' indices are known."""

import numpy as np
import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report.axes import Axis
from search.report.files import load
from search.report.importance import FEWEST_TRIALS, importances, shares

AXES = {name: Axis(name, 0.0, 1.0) for name in ("a", "b", "idle")} | {"c": Axis("c", 0.0, 1.0, names=("x", "y", "z"))}


def found(function, count=60):
    rng = np.random.default_rng(0)
    chosen = {name: pd.Series(rng.random(count)) for name in ("a", "b", "idle")}
    chosen["c"] = pd.Series(rng.choice(["x", "y", "z"], count))
    return shares(AXES, chosen, pd.Series(function(**chosen)))


def test_a_sum_is_shared_by_its_terms():
    """Var(2 a) = 4 Var(b): shares .8 and .2, and nothing for what does not occur."""
    of = found(lambda a, b, c, idle: 2 * a + b)
    assert of["a"].value == pytest.approx(0.8, abs=0.08) and of["b"].value == pytest.approx(0.2, abs=0.05)
    for name in ("idle", "c"):
        assert of[name].high < 0.05
    for share in of.values():
        assert share.low <= share.value <= share.high


def test_a_product_counts_for_both_factors():
    """Total indices of (a - 1/2)(b - 1/2) are 1 for both."""
    of = found(lambda a, b, c, idle: (a - 0.5) * (b - 0.5))
    assert min(of["a"].value, of["b"].value) > 0.8 and of["idle"].value < 0.1


def test_a_choice_is_a_parameter_like_others_and_few_trials_are_uncertain():
    function = lambda a, b, c, idle: a + 3.0 * (c == "y")  # noqa: E731
    many, few = found(function), found(function, 9)
    assert many["c"].value > 0.8 > 0.3 > many["a"].value
    assert few["a"].high - few["a"].low > 2 * (many["a"].high - many["a"].low)


def test_of_a_search_both_objectives_have_shares(tmp_path):
    files = made_up_files()
    run = load(write(tmp_path / "run", files))
    of = importances(run)
    assert list(of) == ["hr_at_10", "filter_rate"] and all(list(one) == run.parameters for one in of.values())
    assert max(of["filter_rate"], key=lambda name: of["filter_rate"][name].value) == "entropy_quantile"


def test_without_enough_trials_or_variation_there_are_none(tmp_path):
    files = made_up_files()
    few = files | {"trials.csv": files["trials.csv"].iloc[: FEWEST_TRIALS - 1]}
    assert importances(load(write(tmp_path / "few", few))) == {}
    level = files | {"trials.csv": files["trials.csv"].assign(filter_rate=0.5)}
    assert importances(load(write(tmp_path / "level", level))) == {}
