"""The quality axis of a comparison, and bars that are left out where no area is known."""

from pathlib import Path

import pytest
from made_up_searches import folder

from search.compare import plots
from search.compare.searches import load_all


def test_other_data_are_compared_by_the_share_of_the_gain(tmp_path: Path) -> None:
    same = load_all([folder(tmp_path / "a"), folder(tmp_path / "b")])
    assert plots.Scale(same).title == "HR@10" and plots.Scale(same).place(same[0], 0.0894) == 0.0894
    other = load_all([tmp_path / "a", folder(tmp_path / "c", data="77" * 32)])
    scale = plots.Scale(other)
    assert scale.relative and scale.title == "share of adapting's gain in HR@10 (%)"
    assert scale.place(other[0], 0.0894) == pytest.approx(100)
    assert scale.place(other[0], 0.0795) == pytest.approx(0)


def test_every_search_is_drawn_and_has_a_bar(tmp_path: Path) -> None:
    searches = load_all([folder(tmp_path / "a<b"), folder(tmp_path / "c")])
    drawn = plots.fronts(searches, plots.Scale(searches))
    assert 'id="fronts-plot"' in drawn and "a&lt;b" in drawn and "a<b" not in drawn
    assert "95% interval" in drawn and "entropy_quantile" in drawn and "MLflow run" in drawn  # what hovering shows
    assert '"x":[80.0,80.0]' in plots.areas(searches)
