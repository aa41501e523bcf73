"""The front in quality and seconds of learning."""

import itertools

import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report import plots, render, seconds
from search.report.files import load


def points(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["trial_id", "seconds", "quality"])


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_the_front_holds_what_nothing_beats_in_quality_with_as_few_seconds(order):
    given = points(("none", 0, 0.08), ("a", 3, 0.10), ("b", 3, 0.09), ("c", 4, 0.10), ("d", 9, 0.11))
    assert list(seconds.front(given.iloc[list(order)])["trial_id"]) == ["none", "a", "d"]


@pytest.fixture
def frames(tmp_path):
    files = made_up_files()
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(test_adapt_seconds=[float(n) for n in range(len(files[name]))])
    run = load(write(tmp_path / "run", files))
    return plots.Frames(run.finished, run.front, run.baselines, str(run.chosen["trial_id"]), run.quality)


def test_page_and_text_have_the_front_by_seconds(frames, tmp_path):
    best = seconds.front(seconds.measured(frames, "test_"))
    assert 0 < len(best) < len(seconds.measured(frames, "test_"))
    sentence = seconds.sentence(frames, "test_")
    for point in best.itertuples():
        assert f"{point.trial_id} ({point.seconds:.1f} s, {point.quality:.4f})" in sentence
    drawn = seconds.plot(frames, "test_", lambda name, prefix: f"{prefix}{name}")
    assert all(f"test_{name}" in drawn for name in (*frames.front["trial_id"], "none", "all"))
    render.render(tmp_path / "run")
    for file in ("report.html", "report.md"):
        assert "against seconds of learning" in (tmp_path / "run" / file).read_text()


def test_without_seconds_there_is_no_such_section(tmp_path):
    files = made_up_files()
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].drop(columns="test_adapt_seconds", errors="ignore")
    render.render(write(tmp_path / "run", files))
    assert "seconds of learning" not in (tmp_path / "run" / "report.md").read_text()
