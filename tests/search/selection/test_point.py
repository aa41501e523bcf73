"""The choice from a front, its groups, and the rule in words."""

from dataclasses import replace

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
