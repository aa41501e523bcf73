"""Plots of parameters: ticks of a log scale, and the pairs that are mapped."""

import json
import re

import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report import axes, maps
from search.report.files import load
from search.report.importance import Share


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0.01, 1.0, [0.01, 0.03, 0.1, 0.3, 1]), (2, 5000, [10, 100, 1000]), (40, 60, [30])]
)
def test_ticks_of_a_log_scale(low, high, ticks):
    assert maps.log_ticks(pd.Series([low, high])) == pytest.approx(ticks)


def test_the_most_important_parameters_of_either_objective_are_mapped_in_their_order():
    values = {"a": (0.1, 0.1), "b": (0.9, 0.0), "c": (0.0, 0.8), "d": (0.2, 0.2), "e": (0.3, 0.0)}
    found = {
        objective: {name: Share(pair[place], 0.0, 1.0) for name, pair in values.items()}
        for place, objective in enumerate(("hr_at_10", "filter_rate"))
    }
    assert maps.mapped("abcde", found) == ["b", "c", "d", "e"]
    assert maps.mapped("abc", {}) == ["a", "b", "c"]


def test_a_map_has_both_objectives_and_every_trial(tmp_path):
    run = load(write(tmp_path / "run", made_up_files()))
    drawn = dict(maps.pairs(run, axes.searched(run), {}, str(run.chosen["trial_id"])))
    assert len(drawn) == 3
    trials = run.finished["trial_id"].tolist()
    for plot in drawn.values():
        assert json.dumps(trials).replace(", ", ",") in plot and re.search(r'"meta":\{"quality":\[', plot)
    assert len(maps.by_parameter(run)) == 3
