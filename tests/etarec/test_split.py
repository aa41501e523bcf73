"""Part sizes of single users against their definition."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.split import leave_one_out_sizes, ratio_sizes


@given(samples=st.integers(0, 400), valid=st.integers(0, 99), test=st.integers(0, 99))
def test_ratio_sizes_follow_their_definition(samples: int, valid: int, test: int) -> None:
    if valid + test >= 100:
        return
    sizes = ratio_sizes(samples, Fraction(valid, 100), Fraction(test, 100))
    expected = [samples - valid * samples // 100 - test * samples // 100, valid * samples // 100, test * samples // 100]
    for part, percent in ((2, test), (1, valid)):
        if 0 < percent * samples < 100 and expected[0] > 1:
            expected[0] -= 1
            expected[part] += 1
    assert list(sizes) == expected
    assert sum(sizes) == samples
    assert samples == 0 or sizes[0] >= 1


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (1, 1, 2)), (5, (2, 1, 2)), (10, (3, 2, 5))],
)
def test_ratio_sizes_of_short_histories(samples: int, expected: tuple[int, int, int]) -> None:
    assert ratio_sizes(samples, Fraction(1, 5), Fraction(1, 2)) == expected


@pytest.mark.parametrize(
    ("samples", "expected"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (9, (7, 1, 1))]
)
def test_leave_one_out_holds_out_the_last_two_samples_never_the_first(
    samples: int, expected: tuple[int, int, int]
) -> None:
    assert leave_one_out_sizes(samples) == expected
