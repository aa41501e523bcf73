"""Values, ranges and correlations of the searched parameters."""

import numpy as np
import pandas as pd
import pytest
from made_up_search import made_up_files, write
from scipy.stats import spearmanr

from search.report import maps, parameters
from search.report.files import Run, load


@pytest.fixture
def files():
    return made_up_files()


@pytest.fixture
def run(tmp_path, files) -> Run:
    return load(write(tmp_path / "run", files))


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("top_k", 50.0, "50"),
        ("top_k", None, "all items"),
        ("top_k", float("nan"), "all items"),
        ("entropy_threshold", None, "null"),
        ("cosine_threshold", 0.123456, "0.123"),
        ("momentum", 1.0, "1"),
        ("admit", "confident", "confident"),
        ("new_transitions_only", True, "True"),
    ],
)
def test_a_value_as_text(name, value, text):
    assert parameters.text(name, value) == text


def test_an_effect_is_the_rank_correlation_with_each_objective(run):
    finished = run.finished
    effects = {effect["name"]: effect for effect in parameters.effects(run)}
    quantile = effects["entropy_quantile"]
    assert quantile["range"] == "0.05 to 1.0" and effects["top_k"]["range"] == "2 to 500, log scale"
    for column, key in (("hr_at_10", "quality"), ("filter_rate", "rate")):
        assert quantile[key] == pytest.approx(spearmanr(finished["entropy_quantile"], finished[column]).statistic)
    all_items = finished["top_k"].fillna(10672)  # `top_k: null` ranks as the catalogue's size
    assert finished["top_k"].isna().any()
    assert effects["top_k"]["rate"] == pytest.approx(spearmanr(all_items, finished["filter_rate"]).statistic)


def test_choices_and_constants_have_no_correlation(tmp_path, files):
    files["spec.yaml"]["space"] |= {"admit": {"choices": ["confident", "uncertain", None]}, "momentum": 0.9}
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(admit="confident", momentum=0.9)
    effects = {effect["name"]: effect for effect in parameters.effects(load(write(tmp_path / "run", files)))}
    assert effects["admit"] == {
        "name": "admit", "range": "one of confident, uncertain, null", "quality": None, "rate": None,
    }  # fmt: skip
    assert (effects["momentum"]["range"], effects["momentum"]["rate"]) == ("0.9", None)


def test_each_parameter_has_a_plot_and_none_without_a_finished_trial(tmp_path, run, files):
    plots = maps.by_parameter(run)
    assert [name for name, plot in plots if f'id="plot-{name}"' in plot] == list(run.parameters)
    files["trials.csv"] = files["trials.csv"].assign(state="FAILED")
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = pd.DataFrame()
    empty = load(write(tmp_path / "empty", files))
    assert maps.by_parameter(empty) == [] and np.all([e["rate"] is None for e in parameters.effects(empty)])
