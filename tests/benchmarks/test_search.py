"""The tables and the page of the replays."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import search
from tests.benchmarks.search_plot import draw


def test_the_median_of_the_trials_to_a_level_counts_the_searches_that_never_reach_it() -> None:
    reached = np.array([[0.2, 0.9, 0.9], [0.2, 0.3, 0.9], [0.2, 0.3, 0.4]])
    assert search._trials_to(0.9, reached) == "3"
    assert search._trials_to(0.2, reached) == "1"
    assert search._trials_to(0.95, reached) == "-"


def test_a_search_measures_half_of_a_table_at_most() -> None:
    rows = len(search.measured("space").table)
    assert search.most_trials("space", 24) == 24 and search.most_trials("space", 10_000) == rows // 2


def test_a_table_that_is_too_small_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other tables keep their sections."""
    whole = search.measured("space")
    small = replace(whole, table=whole.table.iloc[:47])
    monkeypatch.setattr(search, "measured", lambda space: small if space == "small" else whole)
    monkeypatch.setattr(search, "SPACES", ["small", "space"])
    reached = search.Shares(*np.tile(np.linspace(0, 1, 24), (3, 2, 1)))
    monkeypatch.setattr(search, "compare", lambda *arguments: {"auto": reached})
    (page := tmp_path / "search.md").write_text(f"# Title\n\n{search.HEADING}\n")
    arguments = ["--space", "small", "space", "--page", str(page), "--concurrency", "1", "--trials", "24"]
    monkeypatch.setattr(sys, "argv", ["search", *arguments])
    search.main()
    assert "small: its table is too small" in capsys.readouterr().out
    assert re.findall("^### .*", page.read_text(), re.M) == ["### space"]


@pytest.mark.parametrize("space", search.SPACES)
def test_the_page_tells_of_every_table_as_it_is(space: str) -> None:
    """After a table has grown: make bench-search ARGS="--page docs/search.md"."""
    page = (Path(__file__).parents[2] / "docs/search.md").read_text(encoding="utf-8")
    if search.most_trials(space, 10_000) < search.CHECKPOINTS[0]:
        assert f"### {space}\n" not in page
        return
    _, _, section = page.partition(f"### {space}\n\n")
    assert section.startswith(f"`configs/{space}.yaml`: {len(search.measured(space).table):,} configurations were ")


@pytest.mark.parametrize("after", ["", "\n## Next\n\nText.\n"])
def test_a_page_keeps_its_text_around_the_measured_section(tmp_path: Path, after: str) -> None:
    page = tmp_path / "search.md"
    page.write_text(f"# Title\n\nText.\n\n{search.HEADING}\n\nold\n{after}")
    search._write(page, ["### space\n"])
    search._write(page, ["### space\n"])
    assert page.read_text() == f"# Title\n\nText.\n\n{search.HEADING}\n\n### space\n{after}"


def test_the_same_searches_give_the_same_plot(tmp_path: Path) -> None:
    reached = {"random": np.array([[0.1, 0.2], [0.1, 0.3]]), "auto": np.array([[0.1, 0.8], [0.2, 0.9]])}
    for name in ("one.svg", "other.svg"):
        draw(tmp_path / name, reached)
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "other.svg").read_text()
    assert "auto" in (tmp_path / "one.svg").read_text()


def test_tables_hold_medians_over_the_searches() -> None:
    beyond = np.linspace(0, 1, 24) * np.array([[0.5], [1.0], [0.9]])
    first, others = search.tabulated("space", 8, {"auto": search.Shares(beyond / 2, beyond, 1 - beyond)})
    assert list(first.rows) == [["auto", "0.90 (0.70 to 0.95)"]]
    assert list(others.rows) == [["auto", "22", "24", "-", "0.450", "10.0"]]
