"""Checks of a spec against the data."""

from dataclasses import replace

import pytest
from spaces import floats, integers, make

from etarec.config import AdaptConfig, UserError
from search.spec import check_against_data
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
