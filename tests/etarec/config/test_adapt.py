"""Combinations of adaptation and gate that make sense."""

import pytest
from pydantic import ValidationError

from etarec.config import AdaptConfig


def test_an_episodic_adapter_serves_after_adapting():
    AdaptConfig(reset="batch", serve="after", feedback="next_request")
    with pytest.raises(ValidationError, match="reset: batch needs serve: after"):
        AdaptConfig(reset="batch")


def test_the_loss_of_what_is_learned_judges_only_where_something_is_learned():
    AdaptConfig(criterion="loss")
    AdaptConfig(criterion="loss", target="none", objective="entropy")
    for other in ({"target": "state"}, {"objective": "entropy"}):
        with pytest.raises(ValidationError, match="criterion: loss needs target: weights with objective: next_item"):
            AdaptConfig(criterion="loss", **other)
    published = AdaptConfig.published(criterion="loss", calibrate="each_batch")
    assert (published.criterion, published.calibrate) == ("entropy", "first_batch")


def test_a_batch_is_not_ranked_by_a_model_that_learned_its_targets():
    with pytest.raises(ValidationError, match="serve: after with objective: next_item needs feedback: next_request"):
        AdaptConfig(serve="after")
    assert AdaptConfig(serve="after", objective="entropy").feedback == "immediate"


def test_the_corrected_likelihood_needs_a_gate_by_loss():
    with pytest.raises(ValidationError, match="correction: selection needs criterion: loss"):
        AdaptConfig(correction="selection")


@pytest.mark.parametrize("target", ["weights", "state", "none"])
@pytest.mark.parametrize("objective", ["next_item", "entropy"])
def test_only_target_weights_with_next_item_learns_transitions(target, objective):
    config = AdaptConfig(target=target, objective=objective)
    assert config.learns_next_item == ((target, objective) == ("weights", "next_item"))


def test_the_published_gate_replaces_all_of_the_gate_and_nothing_else():
    gate = AdaptConfig.published(10, target="state", entropy_quantile=0.9, gate="open")
    assert (gate.gate, gate.top_k, gate.entropy_quantile, gate.cosine_threshold) == ("eta", 10, 0.5, 0.3)
    assert gate.target == "state"
    assert AdaptConfig.published().top_k == 50
