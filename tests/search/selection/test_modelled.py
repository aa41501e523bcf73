"""The modelled quality: nearer to the truth than single measurements, and what front and choice then go by."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spaces import floats, make

from search.records.states import State
from search.records.trial import Trial
from search.selection.front import front_of
from search.selection.modelled import FEWEST_TRIALS, modelled
from search.selection.point import chosen_and_grouped
from search.spec import ChooseConfig, SearchConfig, Spec

TRIALS, NOISE = 30, 0.008
QUANTILES = np.linspace(0.2, 0.8, TRIALS)
BOUNDS = {"ndcg_at_10": ">= 0.1", "filter_rate": ">= 0.1"}
TRUTH = 0.1 * QUANTILES + 0.3  # the more is admitted, the better


def spec_of(**search: Any) -> Spec:
    space = make(entropy_quantile=floats(0.1, 1.0))
    return replace(space, search=SearchConfig(bootstrap_replicates=100, **search))


def trials(number: int = TRIALS) -> list[Trial]:
    """Trials along one line, measured with noise."""
    noise = np.random.default_rng(3).normal(0, NOISE, TRIALS)
    rows = zip(QUANTILES[:number].tolist(), (TRUTH + noise)[:number].tolist(), strict=True)
    return [Trial(place, {"entropy_quantile": q}, State.FINISHED, metrics(q, hr)) for place, (q, hr) in enumerate(rows)]


def metrics(quantile: float, hr: float) -> dict[str, float]:
    return {"hr_at_10": hr, "ndcg_at_10": hr / 2, "filter_rate": 1 - quantile}


def test_the_model_is_nearer_to_the_truth_than_the_measurements() -> None:
    finished = trials()
    believed = np.array([each["hr_at_10"] for each in modelled(spec_of(front="modelled"), finished)])
    measured = np.array([trial.metrics["hr_at_10"] for trial in finished])
    assert np.abs(believed - TRUTH).mean() < 0.5 * np.abs(measured - TRUTH).mean()


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ({"front": "modelled"}, {"hr_at_10"}),
        (
            {"front": "modelled", "constraints": {"ndcg_at_10": ">= 0.1", "filter_rate": ">= 0.1"}},
            {"hr_at_10", "ndcg_at_10"},
        ),
        ({}, set()),
    ],
)
def test_the_quality_metrics_of_objectives_and_constraints_are_modelled(
    search: dict[str, Any], names: set[str]
) -> None:
    found = modelled(spec_of(**search), trials())
    assert len(found) == TRIALS and all(each.keys() == names for each in found)


def test_a_few_trials_are_taken_as_measured() -> None:
    spec = spec_of(front="modelled")
    assert modelled(spec, trials(FEWEST_TRIALS - 1)) == [{}] * (FEWEST_TRIALS - 1)
    assert all(modelled(spec, trials(FEWEST_TRIALS)))


def test_front_and_choice_leave_luck_out_and_report_what_was_measured() -> None:
    finished = trials()
    lucky = 21
    finished[lucky].metrics["hr_at_10"] = max(trial.metrics["hr_at_10"] for trial in finished) + 0.001
    chosen = {}
    for kind in ("measured", "modelled"):
        spec = replace(spec_of(), search=SearchConfig(front=kind, choose=ChooseConfig(tolerance=0.0)))
        front, _ = front_of(spec, finished)
        choice, _ = chosen_and_grouped(spec, front, [], "")
        assert choice is not None
        chosen[kind] = front[choice.index]
        assert chosen[kind].valid == finished[int(chosen[kind].name[-4:])].metrics
        assert ("These are modelled values" in choice.reason) is (kind == "modelled")
    assert chosen["measured"].name == f"trial-{lucky:04d}"
    assert chosen["modelled"].valid["filter_rate"] < chosen["measured"].valid["filter_rate"] - 0.05


def test_constraints_hold_for_the_modelled_quality() -> None:
    finished = trials()
    finished[5].metrics["hr_at_10"] = 0.345  # meets the bound by luck only
    spec = spec_of(front="modelled", constraints={"hr_at_10": ">= 0.34"})
    front, _ = front_of(spec, finished)
    assert front and "trial-0005" not in {point.name for point in front}
    assert all(point.modelled["hr_at_10"] >= 0.34 for point in front)
