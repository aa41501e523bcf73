"""The configurations that are measured before the trials."""

from dataclasses import replace

from formula import Formula
from spaces import floats, make

from etarec.config import AdaptConfig
from search.selection.anchors import anchor, configs
from search.spec import SearchConfig, trial_seed
from search.spec.dimension import Dimension
from search.subject import job_of


def test_they_are_both_ends_and_five_rates_of_random_skipping() -> None:
    found = configs(make(entropy_quantile=floats(0.1, 1.0)), n_items=100)
    assert list(found) == ["all", *(f"random {percent}%" for percent in (10, 30, 50, 70, 90)), "none"]
    assert found["none"].target == "none" and found["all"].gate == "open"
    assert (found["random 30%"].gate, found["random 30%"].random_rate) == ("random", 0.3)


def test_without_random_points_only_the_ends_are_left() -> None:
    spec = replace(make(entropy_quantile=floats(0.1, 1.0)), search=SearchConfig(random_points=0))
    assert list(configs(spec, n_items=100)) == ["all", "none"]


def test_searched_fields_of_the_adaptation_are_neutral() -> None:
    spec = make(learning_rate=floats(1e-4, 1e-2, log=True), batch_size=Dimension(kind="choices", choices=(32, 64, 128)))
    found = configs(replace(spec, adapt=AdaptConfig(momentum=0.5)), n_items=100)["all"]
    assert (found.learning_rate, found.batch_size, found.momentum) == (1e-3, 64, 0.5)


def test_a_measurement_becomes_a_record() -> None:
    spec = make(entropy_quantile=floats(0.1, 1.0))
    config = configs(spec, n_items=100)["random 50%"]
    work = job_of(spec, config)
    assert work.seed == trial_seed(spec.search.seed, config)
    kept = anchor("random 50%", config, Formula().measure(config, "valid", work.seed))
    assert AdaptConfig(**kept.adapt) == config and kept.metrics["filter_rate"] == 0.5
    assert anchor("random 50%", config, None).metrics == {}
