"""A share of the stream against the whole: Spearman's rank correlation of the configurations."""

import numpy as np
import pandas as pd
import pytest

from etarec.data import Stream
from tests.benchmarks import fidelity

WHOLE = {"whole quality": [0.5, 0.4, 0.3, 0.35], "whole filter": [0.1, 0.5, 0.9, 0.3], "whole s": [4.0, 3.0, 2.0, 3.0]}
STREAM = Stream(users=np.arange(4000, dtype=np.int32) // 10, positions=np.arange(4000, dtype=np.int32) % 10)


def summarised(quality: list[float], seconds: list[float] | None = None) -> list[object]:
    reduced = {"half quality": quality, "half filter": WHOLE["whole filter"]}
    timed = {"half s": seconds} if seconds else {}
    (row,) = fidelity.summary(pd.DataFrame({**WHOLE, **reduced, **timed}), "x").rows
    return list(row)


def test_a_reduction_in_the_same_order_has_the_whole_front() -> None:
    """The fourth configuration is beaten by the second, so three are on the front."""
    assert summarised([0.6, 0.5, 0.4, 0.45], [1.0, 1.0, 0.5, 0.5]) == ["half", "1.000", "1.000", "3 of 3", 3, 0.25]


def test_a_reduction_in_another_order_needs_more_configurations_for_the_front() -> None:
    """It puts the second configuration .1 behind the third; the fourth is as near, so all four are promoted."""
    name, quality, rate, kept, promoted, cost = summarised([0.6, 0.3, 0.4, 0.31])
    assert (name, rate, kept, promoted, cost) == ("half", "1.000", "2 of 3", 4, None)
    assert float(str(quality)) == pytest.approx(1 - 6 * 8 / (4 * 15), abs=1e-3)  # ranks differ by 0, 2, 2, 0


def test_the_first_shares_are_means_over_samples() -> None:
    curve = {"samples": [*range(10, 201, 10)], "hr_at_10": [1.0, 0.5] * 10, "filter_rate": [0.0] * 5 + [1.0] * 15}
    row = fidelity._whole({"hr_at_10": 0.35, "filter_rate": 0.6}, curve)
    assert row["first 0.1 quality"] == 0.75 and row["first 0.25 quality"] == pytest.approx(0.8)
    assert row["first 0.25 filter"] == 0 and row["first 0.5 filter"] == 0.5
    uneven = fidelity._whole({"hr_at_10": 0, "filter_rate": 0}, {**curve, "samples": [30, *range(40, 221, 10)]})
    assert uneven["first 0.1 quality"] == pytest.approx((30 * 1.0 + 10 * 0.5) / 40)


@pytest.mark.parametrize("name", fidelity.REDUCED)
def test_a_reduction_has_a_quarter_of_the_samples_in_their_order(name: str) -> None:
    rows = fidelity.REDUCED[name](STREAM, 100)
    assert 0.2 < len(rows) / len(STREAM) < 0.3 and (np.diff(rows) > 0).all()
    by_user = np.bincount(STREAM.users[rows], minlength=400)
    assert {*by_user} <= {0, 10}  # this stream goes user by user, and batches and the last quarter hold whole users
