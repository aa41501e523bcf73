"""Checks of a spec against the data."""

from dataclasses import replace

import pytest
from spaces import floats, integers, make

from etarec.config import AdaptConfig, UserError
from etarec.models.gru4rec import GRU4Rec
from etarec.models.ttt4rec import TTT4Rec
from search.spec import check_against_data, check_shallow_steps
from search.spec.dimension import Dimension


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (make(top_k=integers(2, 501)), "space.top_k.high: given 501"),
        (make(top_k=Dimension(kind="choices", choices=(None, 600, 5))), "space.top_k.choices: given 600"),
        (replace(make(momentum=floats(0, 0.5)), adapt=AdaptConfig(top_k=700)), "adapt.top_k: given 700"),
    ],
)
def test_k_beyond_the_catalogue_names_its_size(spec, place):
    with pytest.raises(UserError, match=rf"{place}, expected at most 500, the number of items"):
        check_against_data(spec, 500)
    check_against_data(spec, 700)


def test_full_entropy_fits_every_catalogue():
    check_against_data(replace(make(momentum=floats(0, 0.5)), adapt=AdaptConfig(top_k=None)), 5)


def test_a_shallow_step_that_the_model_does_not_offer_is_named_before_training():
    searched = make(filtered=Dimension(kind="choices", choices=("output", "residual", "mlp")))
    fixed = replace(make(momentum=floats(0, 0.5)), adapt=AdaptConfig(filtered="mlp"))
    for spec, message in (
        (searched, "space.filtered.choices: given residual and mlp, which GRU4Rec does not offer"),
        (fixed, "adapt.filtered: given mlp, which .*; expected nothing or output"),
    ):
        with pytest.raises(UserError, match=message):
            check_shallow_steps(spec, GRU4Rec)
        check_shallow_steps(spec, TTT4Rec)
    check_shallow_steps(make(momentum=floats(0, 0.5)), GRU4Rec)
