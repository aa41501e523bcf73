"""The trial from which a sampler learns, against the suggestions themselves."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.running.learning import INFORMED_PER_FIELD, default_trials, first_informed, sentence
from search.running.suggest import Suggestions
from search.spec import SearchConfig, load

SPACE = {"top_k": {"low": 2, "high": 500, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}}


def suggested(folder: Path, sampler: str, concurrency: int, count: int, sign: float) -> list[Any]:
    """A search whose first objective rises or falls with K."""
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"space": SPACE, "search": {"sampler": sampler}}))
    suggestions, asked = Suggestions(load(file), concurrency), []
    for number in range(count):
        parameters = suggestions.ask()
        assert parameters is not None
        asked.append(parameters)
        suggestions.tell(number, [sign * parameters["top_k"], 1 - parameters["entropy_quantile"]])
    return asked


@pytest.mark.parametrize(("sampler", "concurrency"), [("auto", 1), ("auto", 4), ("auto", 8), ("tpe", 1), ("tpe", 4)])
def test_the_named_suggestion_is_the_first_that_results_change(tmp_path: Path, sampler: Any, concurrency: int) -> None:
    first = first_informed(sampler, concurrency)
    assert first is not None
    up, down = (suggested(tmp_path, sampler, concurrency, first + 2, sign) for sign in (1.0, -1.0))
    assert up[:first] == down[:first] and up[first:] != down[first:]


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_some_samplers_never_learn(tmp_path: Path, sampler: Any) -> None:
    assert first_informed(sampler, 2) is None
    assert suggested(tmp_path, sampler, 2, 30, 1.0) == suggested(tmp_path, sampler, 2, 30, -1.0)


@pytest.mark.parametrize("concurrency", [1, 2, 8, 16])
@pytest.mark.parametrize("fields", [1, 3, 6])
def test_the_default_trials_are_whole_rounds_that_leave_enough_to_learn_from(concurrency: int, fields: int) -> None:
    trials = default_trials("auto", fields, concurrency)
    first = first_informed("auto", concurrency)
    assert first is not None and 0 <= trials - first - INFORMED_PER_FIELD * fields < concurrency
    assert trials % concurrency == 0
    assert default_trials("random", fields, 1) == INFORMED_PER_FIELD * fields


def test_the_plan_says_so() -> None:
    assert sentence(SearchConfig(), 2) == "the sampler learns from trial-0006 on"
    assert (
        sentence(SearchConfig(trials=15), 8) == "too few trials for the sampler to learn: it would from trial-0015 on"
    )
    assert sentence(SearchConfig(trials=16), 8) == "the sampler learns from trial-0015 on"
    assert sentence(SearchConfig(sampler="random"), 2) == "sampler random does not learn from results"
    assert sentence(SearchConfig(), 2, 4) == "the sampler knows 4 results of earlier searches from the start"
    assert sentence(SearchConfig(), 2, 3) == "the sampler learns from trial-0006 on"
    assert sentence(SearchConfig(trials=4), 2, 3) == "the sampler learns from trial-0006 on"
