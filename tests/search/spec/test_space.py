"""Dimensions together: conditions, and choices that cannot be combined."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from etarec.config import AdaptConfig, UserError
from search.spec import Spec, as_dict, check_measured, first_points, load, to_yaml, trial_config
from search.spec import space as space_module
from search.spec.dimension import Dimension
from search.spec.space import acting, acts, problems, settled

HINTS = get_type_hints(AdaptConfig)
TARGETS = {"choices": ["weights", "state"]}
PENALTY = {"low": 0.1, "high": 10.0, "log": True, "when": {"target": "weights"}}


def spec_of(folder: Path, space: dict[str, Any], **document: Any) -> Spec:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"space": space, **document}, sort_keys=False))
    return load(file)


def choices(*values: Any, **more: Any) -> Dimension:
    return Dimension(kind="choices", choices=values, **more)


@pytest.mark.parametrize(
    ("space", "adapt", "expected"),
    [
        (
            {"target": TARGETS, "criterion": {"choices": ["entropy", "loss"]}},
            {},
            'target: "state" and criterion: "loss" cannot be combined (criterion: loss needs target: weights',
        ),
        (
            {"reset": {"choices": ["never", "batch"]}, "serve": {"choices": ["before", "after"]}},
            {"objective": "entropy"},
            'reset: "batch" and serve: "before" cannot be combined (reset: batch needs serve: after',
        ),
        (
            {"top_k": {"low": 2, "high": 9}, "reset": {"choices": ["never", "batch"]}},
            {},
            'reset: "batch" cannot be combined (reset: batch needs serve: after',
        ),
    ],
)
def test_choices_that_do_not_fit_are_found_at_load(tmp_path: Path, space: Any, adapt: Any, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        spec_of(tmp_path, space, adapt=adapt)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path / 'space.yaml'}: space.") and expected in line


def test_three_choices_that_fit_in_pairs_only_are_named_together() -> None:
    space = {
        "objective": choices("next_item", "entropy"),
        "serve": choices("before", "after"),
        "feedback": choices("next_request", "immediate"),
    }
    ((place, text),) = problems(space, AdaptConfig())
    assert place == ("space", "objective")
    assert text.startswith('objective: "next_item" and serve: "after" and feedback: "immediate" cannot be combined')


def test_of_a_large_space_a_sample_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "MOST_COMBINATIONS", 60)
    names = ("optimizer", "average_over", "weighting", "calibrate", "admit")
    others = {"top_k": choices(*range(2, 50)), **{name: choices(*get_args(HINTS[name])) for name in names}}
    space = {**others, "target": choices("weights", "state"), "criterion": choices("entropy", "loss")}
    ((_, text),) = problems(space, AdaptConfig())
    assert text.startswith('target: "state" and criterion: "loss"')


def test_a_condition_makes_choices_fit(tmp_path: Path) -> None:
    criterion = {"choices": ["entropy", "loss"], "when": {"target": ["weights"]}}
    spec = spec_of(tmp_path, {"target": TARGETS, "criterion": criterion, "fisher_alpha": PENALTY})
    drawn = {"target": "state", "criterion": "loss", "fisher_alpha": 3.0}
    assert settled(spec.space, spec.adapt, drawn) == {"target": "state", "criterion": "entropy", "fisher_alpha": 0.0}
    assert acting(spec.space, spec.adapt, drawn) == {"target": "state"}
    assert trial_config(spec, settled(spec.space, spec.adapt, drawn)).target == "state"
    learned = {**drawn, "target": "weights"}
    assert settled(spec.space, spec.adapt, learned) == learned == acting(spec.space, spec.adapt, learned)
    check_measured(spec, {"trial-0000": settled(spec.space, spec.adapt, drawn)})
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(spec))
    assert load(file).space == spec.space and as_dict(spec)["space"]["fisher_alpha"]["when"] == {"target": ["weights"]}
    assert str(spec.space["fisher_alpha"]) == "0.1 to 10.0, log scale, where target is weights"


def test_a_conditional_field_has_its_value_in_adapt_elsewhere(tmp_path: Path) -> None:
    space = {
        "criterion": {"choices": ["entropy", "loss"]},
        "cosine_threshold": {"low": 0.1, "high": 1.0, "when": {"criterion": "entropy"}},
    }
    spec = spec_of(tmp_path, space, adapt={"cosine_threshold": None})
    for criterion, expected in (("entropy", 0.4), ("loss", None)):
        drawn = {"criterion": criterion, "cosine_threshold": 0.4}
        config = trial_config(spec, settled(spec.space, spec.adapt, drawn))
        assert (config.criterion, config.cosine_threshold) == (criterion, expected)
    (tmp_path / "again.yaml").write_text(to_yaml(spec))
    assert load(tmp_path / "again.yaml") == spec


def test_first_points_are_settled(tmp_path: Path) -> None:
    space = {"target": {"choices": ["state", "weights"]}, "fisher_alpha": {**PENALTY, "when": {"target": "state"}}}
    points = first_points(spec_of(tmp_path, {**space, "entropy_quantile": {"low": 0.1, "high": 1.0}}))
    assert points and all(point["target"] == "weights" and point["fisher_alpha"] == 0.0 for point in points)


def test_a_condition_on_a_fixed_field_holds_or_does_not() -> None:
    conditional = Dimension(kind="float", low=0.1, high=1.0, when={"target": ("state",)})
    assert acts(conditional, AdaptConfig(target="state"), {}) and not acts(conditional, AdaptConfig(), {})


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            {"fisher_alpha": {**PENALTY, "when": {"target": "weight"}}},
            'space.fisher_alpha.when.target: given "weight", ',
        ),
        ({"fisher_alpha": {**PENALTY, "when": {"goal": 1}}}, "space.fisher_alpha.when.goal: unknown key"),
        ({"fisher_alpha": {**PENALTY, "when": 5}}, "space.fisher_alpha.when: given 5, expected a mapping"),
        (
            {"fisher_alpha": {**PENALTY, "when": {"top_k": 5}}, "top_k": {"low": 2, "high": 9}},
            "space.fisher_alpha.when.top_k: top_k is searched in a range; expected a fixed field",
        ),
        (
            {
                "target": TARGETS,
                "objective": {"choices": ["next_item", "entropy"], "when": {"target": "weights"}},
                "fisher_alpha": {**PENALTY, "when": {"objective": "entropy"}},
            },
            "space.fisher_alpha.when.objective: objective has a condition of its own; expected a fixed field",
        ),
    ],
)
def test_a_bad_condition_is_a_message(tmp_path: Path, space: Any, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        spec_of(tmp_path, space)
    assert expected in str(caught.value)


SHUT = r"top_k: given 1, at which all entropies are 0 and `admit: confident` admits nobody at any quantile"


def test_a_gate_that_admits_nobody_at_any_quantile_is_refused(tmp_path: Path) -> None:
    quantile = {"entropy_quantile": {"low": 0.1, "high": 1.0}}
    with pytest.raises(UserError, match=f"adapt.{SHUT}"):
        spec_of(tmp_path, quantile, adapt={"top_k": 1})
    with pytest.raises(UserError, match=f"space.{SHUT}"):
        spec_of(tmp_path, quantile | {"top_k": {"choices": [1]}})


@pytest.mark.parametrize(
    ("space", "adapt"),
    [
        ({}, {"top_k": 1, "admit": "uncertain"}),
        ({}, {"top_k": 1, "criterion": "loss"}),
        ({}, {"top_k": 1, "min_admitted": 0.1}),
        ({"admit": {"choices": ["confident", "uncertain"]}}, {"top_k": 1}),
        ({"top_k": {"choices": [1, None]}}, {}),
        ({"top_k": {"low": 1, "high": 5}}, {}),
    ],
)
def test_a_single_score_is_allowed_where_somebody_may_be_admitted(tmp_path: Path, space: Any, adapt: Any) -> None:
    spec_of(tmp_path, {"entropy_quantile": {"low": 0.1, "high": 1.0}, **space}, adapt=adapt)
