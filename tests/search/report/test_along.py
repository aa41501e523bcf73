"""The test stream's plots, and the end of the stream."""

import pytest
from made_up_search import made_up_files, stream, write

from search.report import along
from search.report.files import load


def test_three_configurations_are_drawn_with_quality_and_admitted_share(tmp_path):
    files = made_up_files()
    run = load(write(tmp_path / "run", files | {"stream.csv": stream(files, ends=(0.09, 0.08))}))
    drawn = dict(along.plots(run))
    assert list(drawn) == ["HR@10", "admitted share"]
    for plot in drawn.values():
        assert all(f'"name":"{name}"' in plot for name in ("none", "all", run.chosen["trial_id"]))
    assert along.collapse(run) == pytest.approx((0.09, 0.08))


def test_an_older_search_has_no_stream(tmp_path):
    run = load(write(tmp_path / "run", made_up_files()))
    assert along.plots(run) == [] and along.collapse(run) is None
