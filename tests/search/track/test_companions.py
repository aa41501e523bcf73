"""The baselines and the data set, read from the files of a finished search."""

from pathlib import Path

import pytest

from etarec.config import UserError
from search.track.companions import Baseline, baselines_of, data_of

ROWS = """trial_id,top_k,criterion,valid_hr_at_10,valid_filter_rate,test_hr_at_10,test_hr_at_10_low,on_test_front
none,,entropy,0.25,1.0,0.2,0.19,True
random 36%,50,loss,0.3,0.36,,,
"""


def test_a_baseline_has_its_parameters_and_its_metrics_on_both_splits(tmp_path: Path) -> None:
    (tmp_path / "baselines.csv").write_text(ROWS)
    found = baselines_of(tmp_path)
    tested = {"hr_at_10": 0.25, "filter_rate": 1.0, "test_hr_at_10": 0.2}
    assert found["none"] == Baseline({"top_k": "null", "criterion": "entropy"}, tested)
    assert found["random 36%"].metrics == {"hr_at_10": 0.3, "filter_rate": 0.36}


@pytest.mark.parametrize(("value", "words"), [("much", '"much", expected a number'), ("inf", "inf, expected a finite")])
def test_a_damaged_value_is_named(tmp_path: Path, value: str, words: str) -> None:
    (tmp_path / "baselines.csv").write_text(ROWS.replace("0.25", value))
    with pytest.raises(UserError, match=rf"baselines.csv: row none, column valid_hr_at_10: given {words}"):
        baselines_of(tmp_path)


def test_a_search_that_was_cut_off_has_none(tmp_path: Path) -> None:
    assert baselines_of(tmp_path) == {} == data_of(tmp_path)
    (tmp_path / "provenance.json").write_text('{"data": null}')
    assert data_of(tmp_path) == {}
