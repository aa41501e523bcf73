"""stream.csv: what is written of the test stream."""

import numpy as np

from etarec.config import AdaptConfig, Reason
from etarec.evaluate import SEGMENTS, Measurement
from etarec.metrics import SECONDS
from search.selection.front import Point, Selection
from search.selection.pareto import Choice
from search.selection.stream import along


def point(name: str, rank: int, tested: bool = True) -> Point:
    ranks, reasons = np.full(100, rank, np.int32), np.full(100, Reason.ADMITTED, np.int8)
    ranks[:5], reasons[5:] = 0, Reason.ENTROPY
    measured = Measurement(np.arange(100, dtype=np.int32), ranks, reasons, dict.fromkeys(SECONDS, 1.0))
    return Point(name, AdaptConfig(), {}, measured if tested else None)


def selection(tested: bool) -> Selection:
    front = [point("trial-0001", 99, tested), point("trial-0002", 3, tested)]
    return Selection(front, [point(name, 99, tested) for name in ("none", "all", "naive")], Choice(0, ""), 0.0)


def test_the_chosen_point_and_both_ends_have_a_row_per_segment() -> None:
    table = along(selection(tested=True), "hr_at_10")
    assert list(table) == ["configuration", "samples", "hr_at_10", "filter_rate"]
    assert table["configuration"].tolist() == [name for name in ("trial-0001", "none", "all") for _ in range(SEGMENTS)]
    mine = table[table["configuration"] == "trial-0001"]
    assert mine["samples"].tolist() == [5.0 * n for n in range(1, SEGMENTS + 1)]
    assert mine["hr_at_10"].tolist() == [1.0] + [0.0] * 19 and mine["filter_rate"].tolist() == [0.0] + [1.0] * 19


def test_without_test_there_is_a_head_alone() -> None:
    table = along(selection(tested=False), "ndcg_at_10")
    assert table.empty and list(table) == ["configuration", "samples", "ndcg_at_10", "filter_rate"]
