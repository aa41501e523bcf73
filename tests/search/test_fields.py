"""Searched fields: those of AdaptConfig, and the options of a gate of the user's own."""

from etarec.config import AdaptConfig
from search.fields import field_of, of_gate, option_of, value_of, with_values

GATED = AdaptConfig(gate="mine.gates:Mine", gate_options={"margin": 1.0, "depth": 2})


def test_options_have_names_of_their_own() -> None:
    assert option_of("gate_options.margin") == "margin" and field_of("margin") == "gate_options.margin"
    assert option_of("gate_options") is option_of("top_k") is None


def test_values_are_read_and_replaced_one_by_one() -> None:
    changed = with_values(GATED, {"gate_options.margin": 3.0, "top_k": 7})
    assert changed.gate_options == {"margin": 3.0, "depth": 2} and changed.top_k == 7
    assert value_of(changed, "gate_options.margin") == 3.0 and value_of(changed, "top_k") == 7
    assert value_of(changed, "gate_options.other") is None and GATED.gate_options["margin"] == 1.0


def test_options_belong_to_the_gate() -> None:
    assert of_gate("gate_options.margin") and of_gate("top_k") and not of_gate("learning_rate")
