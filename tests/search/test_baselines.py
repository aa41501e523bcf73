"""The baselines: configurations, names and descriptions."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from etarec.config import AdaptConfig
from search.baselines import NAMES, adapting_like, along_front, baseline_config, description, random_at
from search.spec import load

CONFIGS = Path(__file__).parents[2] / "configs"


def test_paper_settings() -> None:
    published = baseline_config("published", load(CONFIGS / "paper.yaml").adapt, n_items=10_672)
    gate = {
        "top_k": 50,
        "entropy_threshold": 3.901,
        "cosine_threshold": 0.3,
        "average_over": "all",
        "weighting": "clamped",
        "min_admitted": 0.1,
        "refill": "each_test",
    }
    learner = {"objective": "entropy", "serve": "after", "parameters": "projections", "optimizer": "sgd"}
    steps = {"learning_rate": 1e-3, "momentum": 0.9, "batch_size": 4096, "dropout": 0.2}
    assert published == AdaptConfig(**gate, **learner, **steps)


def test_baselines_adapt_alike_and_differ_by_the_gate() -> None:
    base = AdaptConfig(momentum=0.5, learning_rate=3e-3)
    made = {name: baseline_config(name, base, n_items=1000, random_rate=0.25) for name in NAMES}
    assert made == {
        "none": replace(base, target="none"),
        "all": replace(base, gate="open"),
        "random": replace(base, gate="random", random_rate=0.25),
        "naive": replace(base, top_k=None, entropy_threshold=0.4 * math.log(1000)),
        "published": base,
    }


def test_target_state_without_adaptation_skips_every_inner_loop() -> None:
    base = AdaptConfig(target="state")
    assert baseline_config("none", base, n_items=9) == replace(base, gate="random", random_rate=1.0)


def test_searched_fields_of_the_adaptation_are_the_chosen_ones_and_those_of_the_gate_are_not() -> None:
    chosen = AdaptConfig(top_k=7, learning_rate=3e-3, momentum=0.1)
    fixed = AdaptConfig(top_k=20, momentum=0.5)
    assert adapting_like(chosen, fixed, ["top_k", "learning_rate"]) == replace(fixed, learning_rate=3e-3)


def test_naive_and_published_gates_ignore_the_gate_of_the_file() -> None:
    for name in ("naive", "published"):
        config = baseline_config(name, AdaptConfig(gate="random", cosine_threshold=0.9), n_items=1000)
        assert (config.gate, config.cosine_threshold) == ("eta", 0.3)


@pytest.mark.parametrize(("name", "along"), [("random 25%", True), ("random", False), ("randomised", False)])
def test_random_skipping_along_the_front_is_known_by_its_name(name: str, along: bool) -> None:
    assert random_at(0.25) == "random 25%"
    assert along_front(name) is along


def test_every_baseline_has_its_own_description() -> None:
    descriptions = [description(name) for name in (*NAMES, "random 25%")]
    assert all(descriptions) and len(set(descriptions)) == len(descriptions)
    assert description("published") == "the published gate: K = 50, quantile 0.5, cosine threshold 0.3"
    assert description("random 25%") == "random skipping"
    assert description("trial-0001") == ""
