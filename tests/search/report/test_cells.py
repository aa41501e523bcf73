"""Tables as plain values."""

from search.report.cells import Cell, Column, Table, cell, cost_cell, parameter


def test_titles_over_neighbours_span_their_columns():
    table = Table(
        "t", [Column("a", "a"), Column("x", "b", "over"), Column("y", "c", "over"), Column("z", "d", "other")]
    )
    assert table.grouped == [("", 1), ("over", 2), ("other", 1)]
    assert [column.full for column in table.columns] == ["a", "x over", "y over", "z other"]


def test_cells_have_a_text_to_show_and_a_value_to_copy():
    assert Cell("1", 1, ("a", "b")).flat == "1 (a; b)"
    assert cell({"x": 0.5}, "x", str) == Cell("0.5", 0.5)
    assert parameter({"top_k": 50.0}, "top_k").value == 50
    assert cost_cell({"test_arithmetic": 0.25}, "test", "arithmetic") == Cell("25.0%", 0.25)
