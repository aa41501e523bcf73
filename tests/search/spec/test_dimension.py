import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etarec.config import AdaptConfig
from search.spec.dimension import Dimension, complete

numbers = st.integers(1, 10**6) | st.floats(1e-9, 1e6)


@st.composite
def ranges(draw: st.DrawFn) -> Dimension:
    kind = draw(st.sampled_from(["int", "float"]))
    one = st.integers(1, 10**6) if kind == "int" else st.floats(1e-9, 1e6)
    low, high = sorted(draw(st.tuples(one, one)))
    assume(low < high)
    scale = draw(st.sampled_from(["linear", "log", "step", "grid"]))
    step = None
    if scale == "grid":
        assume(high >= 2 * low)
        step = draw(st.integers(2, int(high / low)))
    if scale == "step":
        step = draw(st.integers(1, high - low)) if kind == "int" else (high - low) / draw(st.integers(1, 1000))
    return Dimension(kind=kind, low=low, high=high, log=scale in ("log", "grid"), step=step)


@given(ranges())
def test_a_range_contains_its_low_end_and_its_middle_and_nothing_outside(dimension):
    assert dimension.contains(dimension.low)
    assert dimension.contains(dimension.high) or dimension.step is not None
    assert dimension.contains(dimension.middle())
    assert not dimension.contains(dimension.low - 1)
    assert not dimension.contains(dimension.high + 1)
    assert not dimension.contains(float("nan"))
    assert not any(dimension.contains(value) for value in (None, "1", True))


@given(ranges(), numbers)
def test_containing_is_lying_between_on_the_grid(dimension, value):
    legal_type = dimension.kind == "float" or isinstance(value, int)
    between = dimension.low <= value <= dimension.high
    if dimension.step is None:
        assert dimension.contains(value) == (legal_type and between)
    elif dimension.log:
        assert dimension.contains(value) == (legal_type and any(math.isclose(value, one) for one in dimension.values()))
    elif dimension.kind == "int":
        assert dimension.contains(value) == (legal_type and between and (value - dimension.low) % dimension.step == 0)


@given(st.floats(1e-6, 1.0), st.floats(1.01, 100))
def test_middle_of_a_log_range_halves_it_in_ratio(low, ratio):
    middle = Dimension(kind="float", low=low, high=low * ratio, log=True).middle()
    assert middle / low == pytest.approx(low * ratio / middle)


def test_choices_tell_booleans_from_numbers():
    assert Dimension(kind="choices", choices=(0.0, 0.5)).contains(0)
    assert not Dimension(kind="choices", choices=(0.0, 1.0)).contains(True)
    assert Dimension(kind="choices", choices=(None, 5)).contains(None)


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "int", "low": 5, "high": 5},
        {"kind": "float", "low": 0.0, "high": 1.0, "log": True},
        {"kind": "int", "low": 1, "high": 9, "log": True, "step": 1},
        {"kind": "int", "low": 2, "high": 9, "log": True, "step": 5},
        {"kind": "int", "low": 1.5, "high": 9},
        {"kind": "int", "low": 1, "high": 9, "step": -1},
        {"kind": "float", "low": float("nan"), "high": 1.0},
        {"kind": "choices", "choices": ()},
        {"kind": "choices", "choices": (1, 1)},
        {"kind": "choices", "choices": (1,), "low": 1},
        {"kind": "choices", "low": 1, "high": 2},
    ],
)
def test_an_impossible_dimension_cannot_be_made(form):
    with pytest.raises(ValueError, match="Dimension"):
        Dimension(**form)


def test_kind_and_number_type_follow_from_the_field():
    kinds = {key: complete(key, {})["kind"] for key in AdaptConfig.__dataclass_fields__.keys() - {"gate_options"}}
    assert {key for key, kind in kinds.items() if kind == "int"} == {
        "top_k", "batch_size", "fisher_samples", "shallow_negatives",
    }  # fmt: skip
    assert {key for key, kind in kinds.items() if kind == "choices"} == {
        "target", "objective", "parameters", "optimizer", "serve", "new_transitions_only", "gate", "admit",
        "average_over", "weighting", "calibrate", "criterion", "reset", "transitions", "feedback", "filtered",
        "correction", "refill",
    }  # fmt: skip
    completed = complete("cosine_threshold", {"low": 0, "high": 1, "step": 1})
    assert [type(completed[name]) for name in ("low", "high", "step")] == [float] * 3


def test_a_step_on_a_log_scale_is_a_ratio():
    grid = Dimension(kind="int", low=2, high=40, log=True, step=2)
    assert grid.values() == [2, 4, 8, 16, 32] and str(grid) == "2 to 40, log scale in factors of 2"
    assert grid.contains(16) and not grid.contains(40) and not grid.contains(12)
    assert grid.middle() == 8
    assert Dimension(kind="float", low=0.001, high=1.0, log=True, step=10).values() == pytest.approx(
        [0.001, 0.01, 0.1, 1]
    )


def test_values_are_listed_where_they_are_countable():
    assert Dimension(kind="choices", choices=(None, 5)).values() == (None, 5)
    assert list(Dimension(kind="int", low=2, high=4).values()) == [2, 3, 4]
    assert Dimension(kind="float", low=0.0, high=1.0, step=0.3).values() == pytest.approx([0, 0.3, 0.6, 0.9])
    assert not Dimension(kind="float", low=0.0, high=1.0).values()


@pytest.mark.parametrize("form", [{"step": 1e-300}, {"step": 1e-9}, {"step": 1 + 1e-9, "log": True}])
def test_a_step_that_makes_countless_values_is_refused(form):
    with pytest.raises(ValueError, match="expected at most 1,000,000 steps between low and high"):
        Dimension(kind="float", low=0.01, high=1.0, **form)
