"""The choice from a front, its groups, and the rule in words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spaces import floats, make

from etarec.config import AdaptConfig
from search.selection.paired import Outcomes, users_text
from search.selection.point import Point, chosen_and_grouped, rule
from search.spec import ChooseConfig, SearchConfig, Spec

SAMPLES = 1000
USERS = users_text(np.repeat(np.arange(SAMPLES // 5), 5))
DIFFICULTY = np.random.default_rng(0).random(SAMPLES)


def point(name: str, quality: float, rate: float) -> Point:
    """A point whose outcomes are paired with those of all others."""
    outcomes = Outcomes.of(np.where(quality > DIFFICULTY, 0, 99), np.ones(SAMPLES, bool)).text()
    return Point(name, AdaptConfig(), {"hr_at_10": quality, "filter_rate": rate}, outcomes=outcomes)


def spec_of(**search: object) -> Spec:
    return replace(make(entropy_quantile=floats(0.1, 1.0)), search=SearchConfig(bootstrap_replicates=100, **search))


FRONT = [point("a", 0.5, 0.1), point("b", 0.5, 0.2), point("c", 0.3, 0.5), point("d", 0.3, 0.55)]


@pytest.mark.parametrize(
    ("retest", "users", "groups"),
    [("front", USERS, ["b", "b", "d", "d"]), ("all", USERS, [""] * 4), ("front", "", [""] * 4)],
    ids=["one of each group", "all", "no users"],
)
def test_the_chosen_point_stands_for_its_group(retest: str, users: str, groups: list[str]) -> None:
    choice, front = chosen_and_grouped(spec_of(retest=retest), FRONT, [point("all", 0.5, 0.0)], users)
    assert choice is not None and choice.index == 1
    assert [each.group for each in front] == groups


@pytest.mark.parametrize(
    ("objectives", "groups"),
    [
        (("hr_at_10", "ndcg_at_10", "filter_rate"), ["b", "b", "c", "d"]),
        (("ndcg_at_10", "filter_rate"), ["b", "b", "c", "d"]),
        (("hr_at_10", "filter_rate", "cost"), [""] * 4),
    ],
    ids=["two metrics", "another metric", "the cost"],
)
def test_groups_are_alike_in_every_metric_and_none_is_made_where_the_cost_counts(
    objectives: tuple[Any, ...], groups: list[str]
) -> None:
    """The hits of the last point are all in the tenth place, which HR@10 does not see."""
    tenth = Outcomes.of(np.where(DIFFICULTY < 0.3, 9, 99), np.ones(SAMPLES, bool)).text()
    front = [*FRONT[:3], replace(FRONT[3], outcomes=tenth)]
    front = [replace(one, valid={**one.valid, "ndcg_at_10": one.valid["hr_at_10"], "cost": 0.5}) for one in front]
    spec = spec_of(objectives=objectives)
    everything = replace(front[0], name="all", valid={**front[0].valid, "filter_rate": 0.0})
    _, grouped = chosen_and_grouped(spec, front, [everything], USERS)
    assert [each.group for each in grouped] == groups


def test_without_a_front_there_is_no_choice() -> None:
    assert chosen_and_grouped(spec_of(), [], [], USERS) == (None, [])


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ({}, "within 0.5% of the best (the front's or"),
        ({"choose": ChooseConfig(tolerance=0.0)}, "the point of highest HR@10 on validation"),
        ({"choose": ChooseConfig(rule="knee")}, "furthest above the line"),
        (
            {"choose": ChooseConfig(rule="weights")},
            "the highest 1 x HR@10 relative to adapting on every sample + 0.1 x",
        ),
        (
            {"choose": ChooseConfig(rule="constraint"), "constraints": {"hr_at_10": ">= 0.4"}},
            "the point that skips most, of those with HR@10 at least 0.4",
        ),
        ({"choose": ChooseConfig(min_filter_rate=0.5)}, "among the points with a filter rate of at least 50%"),
    ],
)
def test_the_rule_is_said_in_words(search: dict[str, object], text: str) -> None:
    assert text in rule(spec_of(**search))
