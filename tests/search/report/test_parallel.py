"""The lines of parallel coordinates."""

import pytest
from made_up_search import made_up_files, write

from search.report import parallel
from search.report.files import load


@pytest.fixture
def run(tmp_path):
    return load(write(tmp_path / "run", made_up_files()))


def test_each_finished_trial_is_a_line_and_the_chosen_one_lies_on_top(run):
    chosen = str(run.chosen["trial_id"])
    drawing = parallel.coordinates(run, chosen)
    assert {trace.trial for trace in drawing.traces} == set(run.finished["trial_id"])
    assert [trace.kind for trace in drawing.traces].count("front") == len(run.front) - 1
    assert (drawing.traces[-1].trial, drawing.traces[-1].kind) == (chosen, "chosen")
    assert [axis.title for axis in drawing.axes] == [*run.parameters, "HR@10", "skipped %"]


def test_a_line_passes_through_its_places(run):
    drawing = parallel.coordinates(run, "")
    best = max(drawing.traces, key=lambda trace: trace.places[-2])
    assert best.trial == run.finished.loc[run.finished["hr_at_10"].idxmax(), "trial_id"] and best.places[-2] == 1.0
    corners = best.path.removeprefix("M").split(" L")
    assert corners[-2] == f"{drawing.x(len(drawing.axes) - 2):.1f},{parallel.y(1.0)}" and len(corners) == 5
    (unknown,) = [trace for trace in drawing.traces if trace.trial == "t0005"]  # top_k: null, all items
    assert unknown.places[0] == 1.0 or unknown.places[0] is None
    assert (parallel.y(0.0), parallel.y(1.0)) == (290, 30)


def test_without_a_finished_trial_there_is_no_drawing(tmp_path):
    files = made_up_files()
    files["trials.csv"] = files["trials.csv"].loc[[9, 30]]
    assert parallel.coordinates(load(write(tmp_path / "run", files)), "") is None
