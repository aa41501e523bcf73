"""The best result so far in one short text, and the same as values."""

from pathlib import Path

import pytest
from spaces import floats, make

from search.lines import best_so_far
from search.records.records import Records
from search.records.trial import Anchor
from search.spec import Spec


@pytest.fixture
def spec() -> Spec:
    return make(entropy_quantile=floats(0.05, 1.0))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def finish(records: Records, number: int, quality: float, filter_rate: float) -> None:
    records.started(number, {"entropy_quantile": 0.5})
    records.finished(number, {"hr_at_10": quality, "filter_rate": filter_rate}, {})


def test_nothing_is_said_before_the_first_result(spec: Spec, records: Records) -> None:
    records.started(0, {"entropy_quantile": 0.5})
    assert best_so_far(spec, records) == ("", {})


def test_the_area_is_a_share_once_both_ends_are_known(spec: Spec, records: Records) -> None:
    finish(records, 0, 0.25, 0.5)
    text, facts = best_so_far(spec, records)
    assert text == "volume 0.125, best 0.2500 skips 50%" and facts["area_share"] is None
    records.anchored(Anchor("none", {}, {"hr_at_10": 0.15, "filter_rate": 1.0}))
    records.anchored(Anchor("all", {}, {"hr_at_10": 0.25, "filter_rate": 0.0}))
    assert best_so_far(spec, records)[0] == "area 50%, best 0.2500 skips 50%"


def test_the_best_point_is_the_one_that_would_be_chosen(spec: Spec, records: Records) -> None:
    for number, (quality, filter_rate) in enumerate([(0.2500, 0.1), (0.2499, 0.6), (0.1, 0.9)]):
        finish(records, number, quality, filter_rate)
    _, facts = best_so_far(spec, records)
    assert facts["best"] == {"trial_id": "trial-0001", "hr_at_10": 0.2499, "skipped": 0.6}
