"""The points to which random skipping is matched."""

import pytest

from etarec.config import AdaptConfig
from search.selection.matched import partners, rate_of
from search.selection.pareto import Choice
from search.selection.point import Point


def point(name: str, rate: float, group: str = "") -> Point:
    return Point(name, AdaptConfig(), {"filter_rate": rate}, group=group)


FRONT = [point("a", 0.102), point("b", 0.20, "c"), point("c", 0.34), point("d", 0.342), point("e", 0.998)]


@pytest.mark.parametrize(
    ("chosen", "most", "found"),
    [
        (0, 8, {"random": "a", "random 34%": "c", "random 99%": "e"}),
        (2, 8, {"random": "c", "random 10%": "a", "random 99%": "e"}),
        (0, 1, {"random": "a", "random 34%": "c"}),
        (4, 0, {"random": "e"}),
    ],
)
def test_each_measured_point_has_a_partner(chosen: int, most: int, found: dict[str, str]) -> None:
    """b stands in c's group; d skips as many whole percent as c."""
    assert {name: one.name for name, one in partners(FRONT, Choice(chosen, ""), most).items()} == found


def test_of_many_points_some_are_taken_with_both_ends() -> None:
    front = [point(f"p{place}", place / 20) for place in range(1, 20)]
    found = partners(front, Choice(9, ""), 4)
    assert [one.name for one in found.values()] == ["p10", "p1", "p7", "p13", "p19"]


def test_without_a_choice_there_is_nothing_to_match() -> None:
    assert partners([], None, 8) == {}


def test_rates_leave_room_for_chance() -> None:
    assert [rate_of(point("", rate)) for rate in (0.0, 0.126, 1.0)] == [0.01, 0.13, 0.99]
