"""The words that all findings share."""

from compared_rows import VIEW, row

from etarec.config import Reason
from search.report.finding import not_measured, place, skips


def test_a_row_is_told_by_its_quality_and_its_skipped_passes():
    assert place(row("all", 0.0812, 0.5), VIEW) == "0.0812 with 50.0% skipped"
    nothing_to_learn = {f"test_{Reason.NOTHING_TO_LEARN.column}": 0.2}
    assert skips(row("t0001", 0.08, 0.6, **nothing_to_learn), VIEW) == "50.0% skipped"


def test_missing_baselines_are_named():
    assert not_measured(["'none'"]) == "Unknown: the baseline 'none' was not measured."
    assert not_measured(["'none'", "'all'"]) == "Unknown: the baselines 'none' and 'all' were not measured."
