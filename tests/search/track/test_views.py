"""The shared views show metrics that a search logs, and the marks of its front."""

import json
from typing import Any

from search.records.trials_table import METRICS
from search.track.views import SHOWN, VIEW_TAGS
from search.track.wanted import FRONT_TAG


def states() -> list[dict[str, Any]]:
    return [json.loads(json.loads(text)["state"]) for text in VIEW_TAGS.values()]


def test_the_columns_are_metrics_of_trials_and_of_their_measurement_on_test() -> None:
    assert {name.removeprefix("test_") for name in SHOWN} <= set(METRICS)
    for state in states():
        assert state["selectedColumns"] == [f"metrics.`{name}`" for name in SHOWN]
        assert state["orderByKey"] in state["selectedColumns"]


def test_the_front_s_view_leaves_the_runs_with_its_mark() -> None:
    front, trials = states()
    assert front["searchFilter"] == f'tags.{FRONT_TAG} = "true"' and "searchFilter" not in trials
