"""Suggestions depend on the seed and the concurrency alone, also across an interruption of the search."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.running import suggest
from search.running.suggest import Parameters, Suggestions
from search.spec import Spec, first_points, load, trial_config
from tests.driven_search import drive

SPACE: dict[str, Any] = {
    "top_k": {"choices": [10, 50, None]},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
    "batch_size": {"low": 16, "high": 4096, "log": True},
    "min_admitted": {"low": 0.0, "high": 0.5, "step": 0.1},
    "admit": {"choices": ["confident", "uncertain"]},
    "new_transitions_only": {"choices": [True, False]},
}
SAMPLERS = ("auto", "tpe", "gp", "nsga2", "sobol", "random")


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    def _spec(space: dict[str, Any] = SPACE, **search: Any) -> Spec:
        file = tmp_path / "space.yaml"
        file.write_text(yaml.safe_dump({"space": space, "search": search}))
        return load(file)

    return _spec


def objectives(number: int, parameters: Parameters) -> list[float] | None:
    """Every fifth trial fails."""
    quantile = parameters["entropy_quantile"]
    return None if number % 5 == 3 else [0.5 - 0.2 * (1 - quantile) ** 2, 1 - quantile]


def searched(
    spec: Spec, trials: int, concurrency: int, last_first: bool = False
) -> tuple[list[Parameters], Suggestions]:
    """A search in which the oldest or the newest of the running trials ends first."""
    suggestions = Suggestions(spec, concurrency)
    return drive(suggestions, trials, concurrency, objectives, last_first)[0], suggestions


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_serves_every_kind_of_dimension(spec: Any, sampler: str) -> None:
    its = spec(sampler=sampler)
    asked, suggestions = searched(its, 13, concurrency=2)
    for parameters in asked:
        trial_config(its, parameters)  # validates
        assert all(its.space[name].contains(value) for name, value in parameters.items())
    assert len({repr(parameters) for parameters in asked}) == 13
    for name in ("admit", "new_transitions_only", "top_k", "min_admitted"):
        assert len({parameters[name] for parameters in asked}) > 1
    suggestions.tell_rest()
    assert [trial.params for trial in suggestions.study.trials] == asked


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_in_which_trials_end_does_not_matter(spec: Any, sampler: str) -> None:
    its = spec(sampler=sampler, seed=3)
    assert searched(its, 13, 3)[0] == searched(its, 13, 3, last_first=True)[0]


def test_seed_and_concurrency_do_matter(spec: Any) -> None:
    runs = [searched(spec(seed=seed), 14, concurrency)[0] for seed, concurrency in ((0, 1), (1, 1), (0, 4))]
    assert all(one != other for one, other in itertools.combinations(runs, 2))


def test_the_next_suggestion_waits_for_an_old_one_not_for_its_fellows(spec: Any) -> None:
    suggestions = Suggestions(spec(), concurrency=2)  # one more than can run, so a slow trial leaves no worker idle
    for _ in range(3):
        assert suggestions.ready()
        suggestions.ask()
    suggestions.tell(1, [0.1, 0.2])
    suggestions.tell(2, [0.1, 0.2])
    assert not suggestions.ready()
    suggestions.tell(0, None)
    assert suggestions.ready()
    suggestions.ask()  # number 3 rests on 0 alone, number 4 on 1 too
    assert suggestions.ready()


@pytest.mark.parametrize(("concurrency", "ahead"), [(1, 1), (2, 3), (4, 6), (8, 12)])
def test_a_slow_trial_does_not_hold_the_others_up_for_long(spec: Any, concurrency: int, ahead: int) -> None:
    suggestions = Suggestions(spec(sampler="random"), concurrency)
    asked = 0
    while suggestions.ready() and asked < 100:
        suggestions.ask()
        if asked:  # all but the first end at once
            suggestions.tell(asked, [0.5, 0.5])
        asked += 1
    assert asked == ahead


def test_first_points_come_first(spec: Any) -> None:
    its = spec()
    points = first_points(its)
    assert len(points) == 3 and searched(its, 4, 1)[0][:3] == points
    assert (points[2]["entropy_quantile"], points[2]["cosine_threshold"]) == (1.0, 1.0)  # as far open as it goes


def test_no_configuration_comes_twice_and_a_space_has_an_end(spec: Any) -> None:
    its = spec({"top_k": {"choices": [10, 50, None]}, "entropy_quantile": {"low": 0.5, "high": 1.0, "step": 0.5}})
    asked, suggestions = searched(its, 6, 1)
    assert len({repr(sorted(parameters.items(), key=str)) for parameters in asked}) == 6
    assert suggestions.ask() is None


def test_the_study_knows_every_end(spec: Any) -> None:
    _, suggestions = searched(spec(), 7, 2)
    suggestions.tell_rest()
    states = [trial.state.name for trial in suggestions.study.trials]
    assert states == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert suggestions.study.trials[0].values == objectives(0, suggestions.study.trials[0].params)


def test_what_is_left_to_tell_may_have_gaps(spec: Any) -> None:
    suggestions = Suggestions(spec(), 3)
    for _ in range(3):
        suggestions.ask()
    suggestions.tell(0, [0.1, 0.2])
    suggestions.tell(2, [0.3, 0.2])
    suggestions.tell_rest()
    assert [trial.state.name for trial in suggestions.study.trials] == ["COMPLETE", "RUNNING", "COMPLETE"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_search_goes_on_as_the_original_did(spec: Any, sampler: str) -> None:
    its = spec(sampler=sampler)
    original, _ = searched(its, 13, 2)
    resumed = Suggestions(its, 2)
    for number in range(13):
        assert resumed.ready()
        assert resumed.ask(original[number] if number < 9 else None) == original[number]
        resumed.tell(number, objectives(number, original[number]))


@pytest.mark.parametrize("at", [0, 1, 4])
def test_records_are_the_truth_where_the_sampler_suggests_something_else(spec: Any, at: int) -> None:
    its = spec()
    original, _ = searched(its, 6, 1)
    foreign = {**original[at], "entropy_quantile": 0.777}
    resumed = Suggestions(its, 1)
    for number, recorded in enumerate([*original[:at], foreign]):
        assert resumed.ask(recorded) == recorded
        resumed.tell(number, objectives(number, recorded))
    assert resumed.ask() not in [*original[:at], foreign]
    resumed.tell_rest()
    complete = [trial for trial in resumed.study.trials if trial.state.name == "COMPLETE"]
    assert foreign in [trial.params for trial in complete] or at % 5 == 3


def test_a_finite_space_is_searched_to_its_last_configuration(spec: Any) -> None:
    space = {"top_k": {"low": 2, "high": 6}, "min_admitted": {"low": 0.0, "high": 0.5, "step": 0.1}}
    suggestions, seen = Suggestions(spec(space), 1), []
    while (parameters := suggestions.ask()) is not None:
        suggestions.tell(len(seen), [0.5, parameters["min_admitted"]])
        seen.append((parameters["top_k"], parameters["min_admitted"]))
    assert len(seen) == len({(k, round(share, 6)) for k, share in seen}) == 5 * 6


GRID = {
    "top_k": {"low": 2, "high": 32, "log": True, "step": 4},
    "entropy_quantile": {"low": 0.0, "high": 0.5, "step": 0.1},
    "admit": {"choices": ["confident", "uncertain"]},
}


def test_a_grid_is_visited_once_and_evenly(spec: Any) -> None:
    asked, suggestions = searched(spec(GRID, sampler="grid"), 3 * 6 * 2, 2)
    assert len({repr(parameters) for parameters in asked}) == 36 and suggestions.ask() is None
    early = asked[:12]
    for name, values in (("top_k", 3), ("entropy_quantile", 6), ("admit", 2)):
        assert len({parameters[name] for parameters in early}) == values


def test_a_field_that_does_not_act_keeps_its_fixed_value(spec: Any) -> None:
    conditional = {"low": 0.1, "high": 10.0, "log": True, "when": {"target": "weights"}}
    for sampler in ("auto", "tpe"):
        its = spec({"target": {"choices": ["weights", "state"]}, "fisher_alpha": conditional}, sampler=sampler)
        asked: list[Parameters] = []
        suggestions = Suggestions(its, 2)
        while len(asked) < 14 and (parameters := suggestions.ask()) is not None:
            suggestions.tell(len(asked), [0.5, parameters["fisher_alpha"] / 10])
            asked.append(parameters)
        assert len([one for one in asked if one["target"] == "state"]) == 1  # only one such configuration exists
        assert all((one["fisher_alpha"] == 0.0) == (one["target"] == "state") for one in asked)
        resumed = Suggestions(its, 2)
        for number, parameters in enumerate(asked):
            assert resumed.ask(parameters) == parameters
            resumed.tell(number, [0.5, parameters["fisher_alpha"] / 10])


def test_anchors_change_what_is_suggested_and_are_part_of_a_resume(spec: Any) -> None:
    its = spec(SPACE)
    anchors = {
        "none": {"hr_at_10": 0.45, "filter_rate": 1.0},
        "all": {"hr_at_10": 0.5, "filter_rate": 0.0},
        "failed": {},
    }

    def suggested(known: Any, recorded: list[Parameters] | None = None) -> list[Parameters]:
        suggestions, asked = Suggestions(its, 2, known), []
        for number in range(14):
            parameters = suggestions.ask(recorded[number] if recorded and number < 9 else None)
            assert parameters is not None
            suggestions.tell(number, objectives(number, parameters))
            asked.append(parameters)
        return asked

    with_anchors = suggested(anchors)
    assert with_anchors != suggested({}) and suggested(anchors, with_anchors) == with_anchors


def test_beyond_its_limit_auto_goes_on_with_tpe_and_the_constraint(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Suggestions, "most_modelled", 12)
    monkeypatch.setattr(
        suggest, "propose", lambda *known: pytest.fail("modelled") if len(known[1].results) > 12 else None
    )
    suggestions = Suggestions(spec(), 1, {"none": {"hr_at_10": 0.45, "filter_rate": 1.0}})
    for number in range(25):
        parameters = suggestions.ask()
        assert parameters is not None
        suggestions.tell(number, [0.4, 0.5] if number % 2 else [0.5, 0.4])
    suggestions.tell_rest()
    violations = [trial.constraints["no worse than no adaptation"] for trial in suggestions.study.trials]
    assert violations == pytest.approx([0.05 if number % 2 else -0.05 for number in range(25)])


def test_a_search_ends_itself_once_the_model_expects_too_little(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gain stands for the model's; it falls with the number of results."""
    monkeypatch.setattr(suggest, "gain_share", lambda cube, known, parameters: 0.1 / len(known.results))
    monkeypatch.setattr(suggest, "FEWEST_TO_CONVERGE", 6)
    space = {"entropy_quantile": {"low": 0.05, "high": 1.0}}

    def ended_by(its: Spec, recorded: list[Parameters]) -> tuple[list[Parameters], bool]:
        suggestions, asked = Suggestions(its, 1), []
        while len(asked) < 10:
            parameters = suggestions.ask(recorded[len(asked)] if len(asked) < len(recorded) else None)
            if parameters is None:
                break
            suggestions.tell(len(asked), objectives(0, parameters))
            asked.append(parameters)
        return asked, suggestions.converged

    asked, converged = ended_by(spec(space, until="converged", converged_below=0.0151), [])
    assert converged and len(asked) == 7  # 0.1 / 7 < 0.0151
    assert ended_by(spec(space, until="converged", converged_below=0.0151), asked[:5]) == (asked, True)
    assert len(ended_by(spec(space, until="converged", converged_below=0.5), [])[0]) == 6  # FEWEST_TO_CONVERGE
    assert ended_by(spec(space), [])[1] is False


EARLIER = [
    {**dict.fromkeys(("admit",), "confident"), "top_k": top_k, "entropy_quantile": quantile, "cosine_threshold": 0.1,
     "batch_size": 64, "min_admitted": 0.0, "new_transitions_only": True}
    for top_k, quantile in ((10, 0.2), (50, 0.4), (None, 0.6), (10, 0.8), (50, 0.9))
]  # fmt: skip


def warm(its: Spec, sign: float = 1.0, recorded: list[Parameters] | None = None, trials: int = 6) -> list[Parameters]:
    """The suggestions of a search that starts from earlier trials and from another front."""
    taken = [(parameters, [sign * parameters["entropy_quantile"], 0.5]) for parameters in EARLIER]
    front = {**EARLIER[0], "batch_size": 128}
    suggestions = Suggestions(its, 2, {}, taken, [EARLIER[1], front])
    asked: list[Parameters] = []
    for number in range(len(EARLIER), len(EARLIER) + trials):
        assert suggestions.ready()
        parameters = suggestions.ask(recorded[len(asked)] if recorded and len(asked) < len(recorded) else None)
        assert parameters is not None
        asked.append(parameters)
        suggestions.tell(number, objectives(number, parameters))
    assert front in asked[:4] and not [point for point in asked if point in EARLIER]
    assert len(suggestions.study.trials) == len(EARLIER) + trials  # no suggestion was thrown away
    return asked


def test_a_search_that_starts_from_others_learns_from_its_first_own_suggestion_on(spec: Any) -> None:
    its = spec()
    up, down = warm(its), warm(its, -1.0)
    own = len(first_points(its)) + 1
    assert up[:own] == down[:own] and up[own] != down[own]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "sobol"])
def test_a_search_that_starts_from_others_goes_on_alike(spec: Any, sampler: str) -> None:
    its = spec(sampler=sampler)
    assert warm(its, recorded=warm(its)[:5]) == warm(its)
