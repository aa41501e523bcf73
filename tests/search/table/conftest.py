"""A made-up table for the tests of its frames and of its text."""

import pytest
from made_up_rows import cell, measured, row

from search.spec.table_rows import PublishedNumbers
from search.table.rows import Row
from search.table.tabulate import Cell


@pytest.fixture
def rows() -> list[Row]:
    numbers = PublishedNumbers(hr_at_10=0.0872, filter_rate=0.1373, valid_filter_rate=0.3292)
    static = row("static", adapt={"target": "none"}, published=numbers)
    return [static, row("a | [b]", against=("static",)), row("late", (1, 2), against=("static", "a | [b]"))]


@pytest.fixture
def cells() -> list[Cell]:
    return [
        *(cell("static", seed, 0.3, 1.0) for seed in (0, 1)),
        *(cell("a | [b]", seed, 0.5, 0.25) for seed in (0, 1)),
        cell("late", 1, 0.4),
        Cell("late", 2, 9, "sha2", {"valid": measured(0.4, 5), "test": None}),
    ]
