"""CPU time per 1,000 samples: what a cost is, what is measurable, and the front in quality and cost of learning."""

import itertools

import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report import pareto_plot, seconds
from search.report.files import load
from search.report.seconds import Cost


def points(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["trial_id", "learning", "quality"])


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_the_front_holds_what_nothing_beats_in_quality_with_as_little_learning(order):
    given = points(("none", 0, 0.08), ("a", 3, 0.10), ("b", 3, 0.09), ("c", 4, 0.10), ("d", 9, 0.11))
    assert list(seconds.front(given.iloc[list(order)])["trial_id"]) == ["none", "a", "d"]


def timed(name: str, forward: float | None) -> dict[str, object]:
    return {"trial_id": name, "test_forward_seconds": forward, "test_gate_seconds": 0.5, "test_adapt_seconds": 2.0}


def test_a_cost_is_in_milliseconds_per_1000_samples():
    assert seconds.cost(timed("all", 1.0), "test", 2000) == Cost(500.0, 250.0, 1000.0)
    assert Cost(500.0, 250.0, 1000.0).total == 1750.0
    assert seconds.cost(timed("all", None), "test", 2000) is seconds.cost(timed("all", 1.0), "test", None) is None


def test_the_spread_is_that_of_the_same_work():
    """Gates and no adaptation do other work, so their seconds do not count."""
    rows = [timed(*one) for one in (("all", 1.0), ("random", 1.2), ("random 30%", 0.9), ("none", 9.0), ("naive", 5.0))]
    assert seconds.spread(rows, "test") == pytest.approx(0.3)
    assert seconds.spread(rows[:2], "test") is None


@pytest.mark.parametrize(
    ("mine", "noise", "words"),
    [
        (70.0, 0.1, "30% less (23% to 37%)"),
        (140.0, 0.1, "40% more (26% to 54%)"),
        (95.0, 0.1, "no difference that could be measured"),
        (100.0, 0.0, "no difference that could be measured"),
        (6.0, 0.12, "94% less (93% to 95%)"),
        (70.0, None, "30% less (range unknown)"),
    ],
)
def test_a_difference_below_the_spread_is_not_measurable(mine, noise, words):
    assert seconds.compared(Cost(mine, 0.0, 0.0), Cost(100.0, 0.0, 0.0), noise) == words


def test_serving_in_words():
    mine, other = Cost(50.0, 0.0, 20.0), Cost(50.0, 0.0, 50.0)
    assert seconds.serving("t1", mine, other, 0.1) == (
        "Serving 1,000 samples takes 70 ms with t1 and 100 ms with adapting on every sample: 30% less (23% to 37%). "
        "CPU time of the same work varied by up to 10%."
    )
    assert seconds.serving("t1", None, other, 0.1) == seconds.serving("t1", mine, Cost(0.0, 0.0, 0.0), 0.1) == ""


def test_sentence_and_plot_have_the_front_by_cost(tmp_path):
    files = made_up_files()
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(test_adapt_seconds=[98.759 * n for n in range(len(files[name]))])
    run = load(write(tmp_path / "run", files))
    frames = pareto_plot.Frames(run.finished, run.front, run.baselines, str(run.chosen["trial_id"]), run.quality)
    found = seconds.measured(frames, "test_", run.samples("test"))
    best = seconds.front(found)
    assert 0 < len(best) < len(found) and best["learning"].tolist()[:2] == pytest.approx([0, 1000])
    sentence = seconds.sentence(found, run.quality)
    assert all(f"{point.trial_id} (" in sentence and f"{point.quality:.4f})" in sentence for point in best.itertuples())
    drawn = seconds.plot(frames, "test_", found, lambda name, prefix: f"{prefix}{name}")
    assert all(f"test_{name}" in drawn for name in (*frames.front["trial_id"], "none", "all"))
    nothing = seconds.measured(frames, "test_", None)
    assert nothing.empty and seconds.sentence(nothing, run.quality) == ""
