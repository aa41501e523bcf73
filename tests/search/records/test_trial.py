"""The line of an error that tells its cause."""

import pytest

from search.records.trial import Trial, frequent_reason, reason


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("ValueError: why\nand more", "ValueError: why"),
        ("Traceback (most recent call last):\n  File ...\nValueError: why\n", "ValueError: why"),
        (" \n", "no reason recorded"),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_the_reason_is_one_line(error: str, line: str) -> None:
    assert reason(error) == line


def test_the_most_frequent_reason_is_counted_and_the_first_of_equals_is_named() -> None:
    assert frequent_reason(["b: 1", "a", "b: 1\nelsewhere"]) == ("b: 1", 2)
    assert frequent_reason(["b", "a"]) == ("b", 1)


def test_a_trial_is_named_by_its_number() -> None:
    assert Trial(7, {}).trial_id == "trial-0007"
