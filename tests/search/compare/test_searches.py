"""Searches are named by their folders, compared in one metric, and grouped where only their seeds differ."""

from pathlib import Path

import pytest
from made_up_searches import folder

from etarec.config import UserError
from search.compare.searches import differing, load_all, repeated


def test_seeds_make_a_group_and_another_sampler_does_not(tmp_path: Path) -> None:
    places = [
        folder(tmp_path / "a"),
        folder(tmp_path / "b", train__seed=1),
        folder(tmp_path / "c", search__sampler="tpe"),
    ]
    searches = load_all(places)
    assert differing(searches) == ["train.seed", "search.sampler"]
    assert [[search.name for search in group] for group in repeated(searches)] == [["a", "b"]]
    assert searches[0].settings["commit"] == "3f0c9e1b7a"


def test_names_have_as_many_parts_as_they_need(tmp_path: Path) -> None:
    places = [tmp_path / "x" / "demo", tmp_path / "y" / "demo"]
    for place in places:
        place.parent.mkdir()
        folder(place)
    assert [search.name for search in load_all(places)] == ["x/demo", "y/demo"]
    with pytest.raises(UserError, match="the same folder twice"):
        load_all([places[0], places[0]])


def test_points_run_from_adapting_on_everything_to_no_adaptation(tmp_path: Path) -> None:
    (search,) = load_all([folder(tmp_path / "a")])
    points = search.points()
    assert (points[0][2]["trial_id"], points[-1][2]["trial_id"]) == ("all", "none")
    assert search.split == "test" and search.anchors == (0.0795, 0.0894)


def test_other_metrics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="searches for hr_at_10 and ndcg_at_10, expected one"):
        load_all([folder(tmp_path / "a"), folder(tmp_path / "b", "ndcg_at_10")])
