"""One page and one table of several searches, and the command that makes them."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest
from made_up_searches import folder

from search.compare import render as render_module
from search.compare.__main__ import main
from search.compare.render import render


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    return [folder(tmp_path / "first"), folder(tmp_path / "second", train__seed=1)]


def test_page_and_table_have_every_search(places: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*map(str, places), "--out", str(tmp_path / "out" / "deep")]) == 0
    assert capsys.readouterr().out.count("compare.") == 2
    page = (tmp_path / "out" / "deep" / "compare.html").read_text(encoding="utf-8")
    for words in ("Comparison of 2 searches", "Repeated searches", "first, second", "attainment-0", "train.seed"):
        assert words in page
    assert "https://cdn" not in page.split("</script>", 1)[1]
    table = pd.read_csv(tmp_path / "out" / "deep" / "compare.csv")
    assert table["search"].tolist() == ["first", "second"] and table["trials"].tolist() == [29, 29]


def test_a_comparison_of_one_search_and_of_untested_ones_is_complete(places: list[Path], tmp_path: Path) -> None:
    for name in ("pareto.csv", "baselines.csv"):
        frame = pd.read_csv(places[0] / name)
        frame.drop(columns=[column for column in frame if "test" in column]).to_csv(places[0] / name, index=False)
    for some in (places[:1], places):
        render(some, tmp_path / "out")
        assert "Fronts on validation" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")


def test_searches_with_other_objectives_are_named_and_their_areas_are_not_drawn(tmp_path: Path) -> None:
    both = [
        folder(tmp_path / "plain"),
        folder(tmp_path / "costed", search__objectives=["hr_at_10", "filter_rate", "cost"]),
    ]
    alike = [both[0], folder(tmp_path / "seed", train__seed=1)]
    pages = {}
    for name, places in (("both", both), ("alike", alike)):
        render(places, tmp_path / name)
        pages[name] = (tmp_path / name / "compare.html").read_text(encoding="utf-8").split("</script>", 1)[1]
    assert "costed also searched by cost, which the verdict and the plots leave out" in pages["both"]
    assert "their areas cannot be compared" in pages["both"] and "areas-plot" not in pages["both"]
    assert "<small>with cost</small>" in pages["both"]
    assert "also searched by" not in pages["alike"] and "cannot be compared" not in pages["alike"]
    assert "areas-plot" in pages["alike"]


def test_a_folder_without_a_search_ends_with_one_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "nothing"), "--out", str(tmp_path)]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (errno.EACCES, 2, "out: cannot write the comparison: Permission denied"),
        (errno.ENOSPC, 1, "compare.html: No space left on device; free space there"),
    ],
)
def test_a_page_that_cannot_be_written_ends_with_one_message(
    places: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    code: int,
    status: int,
    words: str,
) -> None:
    def fail(path: Path, content: str) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(render_module, "write_whole", fail)
    assert main([*map(str, places), "--out", str(tmp_path / "out")]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
