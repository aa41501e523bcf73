"""A spec's trials: first points, configurations, objectives and seeds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from spaces import floats, integers, make

from etarec.config import AdaptConfig
from search.spec import (
    canonical,
    first_points,
    load,
    trial_config,
    trial_seed,
)
from search.spec.dimension import Dimension

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_begin_at_the_published_gates(path):
    spec = load(path)
    assert {point["top_k"] for point in first_points(spec)} == {10, 50}
    assert first_points(spec)[-1]["cosine_threshold"] == 1.0
    assert not any(line.strip().startswith("path: /") for line in path.read_text().splitlines())


def test_first_points_are_left_out_where_the_space_does_not_contain_them():
    quantile = floats(0.1, 0.9)
    assert first_points(make(top_k=integers(20, 80), entropy_quantile=quantile)) == [
        {"top_k": 50, "entropy_quantile": 0.5},
        {"top_k": 50, "entropy_quantile": 0.9},
    ]
    assert first_points(make(top_k=integers(2, 80, step=8))) == [{"top_k": 10}, {"top_k": 50}]
    assert first_points(make(top_k=integers(3, 80, step=8))) == []
    assert first_points(make(cosine_threshold=floats(0.01, 0.2))) == [{"cosine_threshold": 0.2}]


def test_the_gate_is_tried_as_far_open_as_it_goes():
    choices = Dimension(kind="choices", choices=(0.25, 0.75))
    opened = first_points(make(entropy_quantile=choices, cosine_threshold=floats(0.01, 0.6)))[-1]
    assert opened == {"entropy_quantile": 0.75, "cosine_threshold": 0.6}
    turned = make(entropy_quantile=floats(0.1, 0.9))
    turned = replace(turned, adapt=replace(turned.adapt, admit="uncertain"))
    assert first_points(turned)[-1] == {"entropy_quantile": 0.1}  # at least E0: the lower, the more is admitted


def test_other_dimensions_of_a_published_point_are_neutral():
    spec = make(
        entropy_quantile=floats(0.0, 1.0),
        learning_rate=floats(1e-6, 1e-4, log=True),
        momentum=floats(0.5, 0.99),
        batch_size=integers(16, 64),
        entropy_threshold=Dimension(kind="choices", choices=(1.0, None)),
        parameters=Dimension(kind="choices", choices=("projections", "body")),
    )
    point, opened = first_points(spec)  # K is not searched, so both published gates are the same point
    assert opened == {**point, "entropy_quantile": 1.0}
    assert point.pop("learning_rate") == pytest.approx(1e-5)
    assert point == {
        "entropy_quantile": 0.5,
        "momentum": 0.9,
        "batch_size": 40,
        "entropy_threshold": None,
        "parameters": "body",
    }


def test_trial_config_needs_exactly_the_searched_keys():
    spec = make(top_k=integers(2, 9))
    assert trial_config(spec, {"top_k": 3}) == AdaptConfig(top_k=3)
    for parameters in ({}, {"top_k": 3, "momentum": 0.1}):
        with pytest.raises(ValueError, match="top_k"):
            trial_config(spec, parameters)


def test_seeds_depend_on_run_and_configuration_and_on_nothing_else():
    configs = [AdaptConfig(top_k=k) for k in range(1, 200)]
    seeds = {trial_seed(seed, config) for seed in (0, 1) for config in configs}
    assert len(seeds) == 2 * len(configs)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert trial_seed(3, AdaptConfig(cosine_threshold=1)) == trial_seed(3, AdaptConfig(cosine_threshold=1.0))
    code = (
        "from etarec.config import AdaptConfig; from search.spec import trial_seed; print(trial_seed(7, AdaptConfig()))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert int(other.stdout) == trial_seed(7, AdaptConfig())


def test_canonical_text_tells_configurations_apart():
    assert canonical(AdaptConfig()) == canonical(AdaptConfig())
    assert canonical(AdaptConfig(top_k=None)) != canonical(AdaptConfig())
