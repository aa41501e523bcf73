"""The wanted content of a run, and the part that an existing run lacks."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from search.records.states import State
from search.records.trial import Trial
from search.spec import flat
from search.track.wanted import (
    PARAMS_PER_BATCH,
    Copy,
    Outcome,
    Point,
    Wanted,
    points,
    search_name,
    trial_name,
    wanted_of,
)

NAMES = st.text("abc", min_size=1, max_size=2)
TEXTS = st.dictionaries(NAMES, st.text("xyz", min_size=1), max_size=5)
POINTS = st.lists(st.builds(Point, NAMES, st.floats(-9, 9), st.just(1.0), st.integers(0, 3)), max_size=8)
FINISHED = Trial(
    3,
    {"top_k": None, "admit": "confident"},
    State.FINISHED,
    {"hr_at_10": 0.25, "seconds": math.inf},
    {"samples": [10.0, 20.0], "hr_at_10": [0.1, 0.4]},
    began=5.0,
    ended=7.0,
)


@given(TEXTS, TEXTS, st.dictionaries(NAMES, st.floats(-9, 9)), TEXTS, POINTS, TEXTS)
def test_what_took_its_differences_lacks_nothing_and_keeps_its_parameters(
    params: dict[str, str],
    tags: dict[str, str],
    metrics: dict[str, float],
    wanted_params: dict[str, str],
    wanted_metrics: list[Point],
    wanted_tags: dict[str, str],
) -> None:
    copy = Copy("run", 0.0, "RUNNING", dict(params), dict(metrics), dict(tags))
    wanted = Wanted(State.FINISHED, wanted_params, tuple(wanted_metrics), wanted_tags)
    for difference in list(copy.lacks(wanted)):
        copy.took(difference)
    assert list(copy.lacks(wanted)) == []
    assert copy.params == {**wanted_params, **params} and copy.tags == {**tags, **wanted_tags}


def test_no_batch_has_more_parameters_than_mlflow_takes_and_none_comes_twice() -> None:
    names = [f"space.{number}" for number in range(2 * PARAMS_PER_BATCH + 1)]
    wanted = Wanted(State.RUNNING, dict.fromkeys(names, 1), points({"a": 1.0}, 2.0), {"tag": "x"})
    batches = list(Copy("run", 0.0, "RUNNING").lacks(wanted))
    assert [len(batch.params) for batch in batches] == [PARAMS_PER_BATCH, PARAMS_PER_BATCH, 1]
    assert [name for batch in batches for name in batch.params] == names
    assert [batch.metrics for batch in batches] == [(Point("a", 1.0, 2.0),), (), ()]


def test_a_finished_trial_is_its_metrics_and_its_curve_at_the_time_of_its_end() -> None:
    wanted = wanted_of(FINISHED, began=1.0)
    assert wanted.metrics == (
        Point("hr_at_10", 0.25, 7.0),  # infinity is no metric
        Point("stream_hr_at_10", 0.1, 7.0, 10),
        Point("stream_hr_at_10", 0.4, 7.0, 20),
    )
    assert (wanted.state, wanted.end, wanted.tags) == (State.FINISHED, 7.0, {})
    assert set(wanted.unwanted) == {"error", "traceback"}  # why an earlier attempt was cut off
    copy = Copy("run", 0.0, "RUNNING", metrics={"hr_at_10": 0.25, "stream_hr_at_10": 0.1})
    (difference,) = copy.lacks(wanted)
    assert [point.step for point in difference.metrics] == [10, 20]  # a curve without its end comes whole
    assert difference.params == {"top_k": "null", "admit": "confident"}


def test_a_trial_of_an_earlier_search_names_its_place() -> None:
    assert wanted_of(replace(FINISHED, source="runs/mine/trial-0003"), 1.0).tags == {"source": "runs/mine/trial-0003"}


def test_a_journal_without_times_has_those_of_the_run() -> None:
    trial = Trial(0, {}, State.FINISHED, {"hr_at_10": 0.5})
    assert [point.moment for point in wanted_of(trial, began=11.0).metrics] == [11.0]


def test_marks_of_the_front_follow_the_end_and_only_that() -> None:
    def marks(outcome: Outcome | None) -> tuple[bool, bool, set[str]]:
        wanted = wanted_of(FINISHED, 1.0, outcome)
        tested = {point.name for point in wanted.metrics if point.name.startswith("test_")}
        return wanted.tags.get("pareto") == "true", "pareto" in wanted.unwanted, tested

    assert marks(None) == marks(Outcome(State.FAILED)) == (False, False, set())
    assert marks(Outcome(State.FINISHED, front={})) == (False, True, set())
    assert marks(Outcome(State.KILLED, front={"trial-0003": {}})) == (True, False, set())
    assert marks(Outcome(State.FINISHED, front={"trial-0003": {"hr_at_10": 0.2}})) == (True, False, {"test_hr_at_10"})


def test_nested_parameters_are_flat() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}


CHOSEN = {
    "verdict": "use_chosen",
    "advice": "Use trial-0003: skip 6% of the passes.",
    "trial_id": "trial-0003",
    "set": ["adapt.top_k=null", "adapt.entropy_quantile=0.5"],
}


def test_the_search_s_own_run_tells_its_verdict_and_its_choice() -> None:
    front = {"trial-0003": {"hr_at_10": 0.25, "filter_rate": 0.5}, "trial-0004": {}}
    outcome = Outcome(State.FINISHED, {"hypervolume": 0.4}, front, chosen=CHOSEN)
    assert outcome.all_metrics == {"hypervolume": 0.4, "chosen_test_hr_at_10": 0.25, "chosen_test_filter_rate": 0.5}
    assert outcome.params == {"chosen.top_k": "null", "chosen.entropy_quantile": "0.5"}
    note = outcome.tags.pop("mlflow.note.content")
    assert note.startswith(
        "Use trial-0003: skip 6% of the passes.\n\nThe front on test:\n\n| trial | HR@10 | filter rate |"
    )
    assert note.endswith("| trial-0003 | 0.2500 | 0.5000 |")
    assert {key: outcome.tags[key] for key in ("verdict", "chosen")} == {
        "verdict": "use_chosen",
        "chosen": "trial-0003",
    }


def test_a_search_without_a_choice_has_a_verdict_and_no_more() -> None:
    outcome = Outcome(State.KILLED, {"hypervolume": 0.0}, {}, chosen={"verdict": "not_settled", "advice": "No trial."})
    assert outcome.tags == {"verdict": "not_settled", "mlflow.note.content": "No trial."}
    assert (outcome.params, outcome.all_metrics) == ({}, {"hypervolume": 0.0})
    assert Outcome(State.KILLED).tags == {}


def test_names_of_runs_tell_spec_data_date_and_configuration() -> None:
    parameters = flat({"data": {"path": "/data/clicks.csv"}})
    assert search_name("mine", parameters, 1_700_000_000) == "mine on clicks.csv, 2023-11-14 22:13"
    assert search_name("demo", flat({"data": {"dataset": "simulated"}}), 1e9).startswith("demo on simulated, 2001-")
    assert trial_name(Trial(3, {"top_k": 66, "entropy_quantile": 0.86})) == "k66 q.86"
    assert trial_name(Trial(3, {})) == "trial-0003"
