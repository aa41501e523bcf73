"""The k-core filter against a literal loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.config import UserError
from etarec.preprocessing import k_core
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
    log = Log(users, items, np.array([str(n) for n in range(items.max() + 1)]), None)
    expected = literal_k_core(rows, k)
    if not expected:
        with pytest.raises(UserError, match=rf"^log.csv: the {k}-core filter .* leaves none of the {len(rows)} inter"):
            k_core(log, k, "log.csv")
        return
    core = k_core(log, k, "log.csv")
    assert [int(token) for token in core.tokens[core.items]] == [item for _, item in expected]
    order = sorted({user for user, _ in expected})
    assert [order[code] for code in core.users] == [user for user, _ in expected]
    assert len(core.tokens) == len({item for _, item in expected})
