"""The closer look at a search, with and without its parts."""

import re

import pytest
from made_up_search import made_up_files, stream, write

from search.report import pareto_plot, render
from search.report.answer import Answer
from search.report.files import load
from search.report.sections import Sections


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(pareto_plot, "pareto_images", lambda *given: None)
    files = made_up_files()
    render.render(write(tmp_path / "run", files | {"stream.csv": stream(files, ends=(0.09, 0.08))}))
    return (tmp_path / "run" / "report.html").read_text(encoding="utf-8").split("</script>", 1)[1]


def test_the_page_has_every_section_and_marks_trials_in_all_of_them(page):
    for title in (
        "Health of this search", "Along the test stream", "From validation to test", "Was the budget enough?",
        "All trials at once", "Pairs of parameters", "Where the time went",
    ):  # fmt: skip
        assert page.count(f">{title}<") == 1
    assert (
        page.count('class="brush"') == 5 and len(re.findall(r'<path class="\w+" d="M[^"]+" data-trial="t', page)) == 29
    )
    assert page.count('<tr data-trial="t') == 32 and page.count('"customdata":[') > 8
    assert page.count('aria-label="') > 15


def test_sentences_and_plots_of_a_search_that_was_cut_off(tmp_path):
    files = made_up_files()
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name][[column for column in files[name] if "test" not in column]]
    more = Sections(Answer(load(write(tmp_path / "run", files))))
    assert more.sentences()["agreement"] == more.sentences()["serving"] == "" != more.sentences()["by_learning"]
    drawn = more.plots(lambda name, prefix: name)
    assert drawn["shrinkage"] == drawn["streams"] == [] and len(drawn["pairs"]) == 3
