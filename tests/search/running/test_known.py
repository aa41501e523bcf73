"""The results that the sampler knows of a search, and the gain that it expects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spaces import floats, make

from search.records.records import Records
from search.records.trial import Anchor
from search.running.known import expected_gain, known, reference
from search.spec import SearchConfig

ANCHORS = {"all": {"hr_at_10": 0.5, "filter_rate": 0.0}, "none": {"hr_at_10": 0.3, "filter_rate": 1.0}}


@pytest.mark.parametrize(
    ("constraints", "corner"),
    [
        ({}, [0.3, 0.0]),
        ({"hr_at_10": ">= 0.9 * all"}, [0.45, 0.0]),
        ({"hr_at_10": ">= 0.1", "filter_rate": ">= 0.4"}, [0.3, 0.4]),
        ({"hr_at_10": "<= 0.4", "arithmetic": "<= 0.5"}, [0.3, 0.0]),
    ],
)
def test_lower_bounds_on_objectives_raise_the_corner(constraints: dict[str, str], corner: list[float]) -> None:
    assert reference(SearchConfig(constraints=constraints), ANCHORS) == pytest.approx(corner)


def test_the_expected_gain_falls_as_the_front_fills(tmp_path: Path) -> None:
    spec, records = make(entropy_quantile=floats(0.05, 1.0)), Records(tmp_path)
    for name, metrics in ANCHORS.items():
        records.anchored(Anchor(name, {}, metrics))
    gains = []
    for number, quantile in enumerate([0.3, 0.9, 0.5, 0.7, *np.linspace(0.05, 1.0, 8)]):
        records.started(number, {"entropy_quantile": float(quantile)})
        quality = 0.5 - 0.2 * (1 - quantile) ** 2
        records.finished(number, {"hr_at_10": quality, "filter_rate": 1 - quantile}, {})
        if number in (2, 3, 11):
            gains.append(expected_gain(spec, records))
    assert gains[0] is None and gains[2] < gains[1]
    constrained = replace(spec, search=replace(spec.search, constraints={"filter_rate": ">= 0.99"}))
    assert expected_gain(constrained, records) > gains[2]  # nothing lies above that corner yet


def test_the_corner_of_the_cost_is_adapting_on_everything() -> None:
    anchors = {"none": {"hr_at_10": 0.3, "cost": 0.2}, "all": {"hr_at_10": 0.5, "cost": 1.02}}
    search = SearchConfig(objectives=("hr_at_10", "filter_rate", "cost"))
    assert reference(search, anchors) == pytest.approx([0.3, 0.0, -1.02])
    bounded = SearchConfig(objectives=("cost", "hr_at_10"), constraints={"cost": "<= 0.6 * all"})
    assert reference(bounded, anchors) == pytest.approx([-0.612, 0.3])
    assert reference(search, {}, [({}, (0.4, 0.5, -0.7)), ({}, (0.2, 0.1, -0.9))]) == pytest.approx([0.2, 0.0, -0.9])


def test_the_sampler_knows_adapting_on_everything_and_the_largest_objectives() -> None:
    search = SearchConfig(objectives=("cost", "hr_at_10", "filter_rate"))
    anchors = {"none": {"hr_at_10": 0.3, "filter_rate": 1.0, "cost": 0.1}}
    everything = {"hr_at_10": 0.5, "filter_rate": 0.2, "cost": 1.02}
    found = known(search, {**anchors, "all": everything}, [({}, (-0.5, 0.4, 0.6))], [])
    assert found.origin is not None and found.origin.rate == 2
    assert found.origin.values == pytest.approx([-1.02, 0.5, 0.2]) and list(found.most) == [0.0, 1.0, 1.0]
    for without in (anchors, {**anchors, "all": {}}):  # its measurement failed
        assert known(search, without, [({}, (-0.5, 0.4, 0.6))], []).origin is None
    assert (
        known(SearchConfig(objectives=("hr_at_10", "cost")), {"all": everything}, [({}, (0.4, -0.5))], []).origin
        is None
    )
