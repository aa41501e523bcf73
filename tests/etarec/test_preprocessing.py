"""The k-core filter and repeated rows against literal loops."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.config import UserError
from etarec.preprocessing import k_core, sort_by_time, without_duplicates
from etarec.readers import Log


def literal_k_core(rows: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    while True:
        users, items = [u for u, _ in rows], [i for _, i in rows]
        kept = [(u, i) for u, i in rows if users.count(u) >= k and items.count(i) >= k]
        if kept == rows:
            return rows
        rows = kept


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    k=st.integers(0, 4),
)
def test_the_k_core_is_the_fixed_point_of_removing_rare_users_and_items(rows: list[tuple[int, int]], k: int) -> None:
    users, items = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    log = Log(users, items, pa.array([str(n) for n in range(items.max() + 1)], pa.large_string()), None)
    expected = literal_k_core(rows, k)
    if not expected:
        with pytest.raises(UserError, match=rf"^log.csv: the {k}-core filter .* leaves none of the {len(rows)} inter"):
            k_core(log, k, "log.csv")
        return
    core = k_core(log, k, "log.csv")
    assert [int(token) for token in core.tokens.take(core.items).to_pylist()] == [item for _, item in expected]
    order = sorted({user for user, _ in expected})
    assert [order[code] for code in core.users] == [user for user, _ in expected]
    assert len(core.tokens) == len({item for _, item in expected})


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30),
    timed=st.booleans(),
)
def test_the_first_of_equal_rows_is_kept(rows: list[tuple[int, int, int]], timed: bool) -> None:
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    tokens = pa.array(["0", "1", "2"], pa.large_string())
    log = Log(users.astype(np.int32), items.astype(np.int32), tokens, times + 0.5 if timed else None)
    expected = list(
        dict.fromkeys((u, i, t if timed else 0) for u, i, t in sorted(rows, key=lambda r: r[:1] + r[2:] * timed))
    )
    found = without_duplicates(sort_by_time(log), drop=True)
    assert list(zip(found.users, found.items, strict=True)) == [row[:2] for row in expected]
    count = len(rows) - len(expected)
    said = (f"{count} of {len(rows)} rows (data.drop: duplicates)",) if count else ()
    assert found.reading.dropped == said and found.reading.doubts == ()
    kept = without_duplicates(sort_by_time(log), drop=False)
    assert len(kept.items) == len(rows) and len(kept.reading.doubts) == bool(count and timed)
