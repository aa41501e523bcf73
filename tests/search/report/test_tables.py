"""The report's tables: their cells and values, the folded rows of random skipping, and all trials."""

import re
from html import unescape

import pytest
from made_up_search import made_up_files, write

from search.report import render, search_tables, tables
from search.report.answer import Answer
from search.report.files import load
from search.report.importance import importances


@pytest.fixture
def files():
    return made_up_files()


@pytest.fixture
def answer(tmp_path, files):
    return Answer(load(write(tmp_path / "run", files)))


def column(table, name):
    place = [column.name for column in table.columns].index(name)
    return [line.cells[place] for line in table.lines]


def every_table(answer):
    run = answer.run
    return [
        *(make(answer) for make in (tables.front, tables.fixed, tables.measurements)),
        search_tables.effects(run, importances(run)),
        search_tables.costs(answer, 0.1),
        *(make(run) for make in (search_tables.trials, search_tables.failures)),
    ]


def test_tables_are_rectangular_and_their_columns_have_distinct_names(answer):
    for table in every_table(answer):
        names, titles = [one.name for one in table.columns], [one.full for one in table.columns]
        assert len({*names}) == len(names) and len({*titles}) == len(titles), table.name
        assert {len(line.cells) for line in table.lines} == {len(names)}, table.name
        assert sum(span for _, span in table.grouped) == len(names)


def test_the_values_to_sort_and_copy_are_the_files(answer, files):
    table = tables.front(answer)
    front = files["pareto.csv"].sort_values("valid_filter_rate")
    for name in (
        "trial_id",
        "top_k",
        "test_hr_at_10",
        "test_delta_hr_at_10",
        "test_vs_none_hr_at_10",
        "test_arithmetic",
    ):
        expected = [None if value != value else value for value in front[name]]
        assert [cell.value for cell in column(table, name)] == pytest.approx(expected), name
    chosen = [line.cells[0].value for line in table.lines if line.chosen]
    assert chosen == [files["chosen.yaml"]["trial_id"]]


def test_random_skipping_along_the_front_is_one_line(answer):
    table = tables.fixed(answer)
    folded = [line.cells[0].text for line in table.lines if line.folded]
    (summary,) = (line for line in table.lines if line.summary)
    assert folded == [cell["trial_id"] for cell in answer.along_front] and summary.cells[0].text == "random, 4 rates"
    place = [one.name for one in table.columns].index("test_skipped")
    assert summary.cells[place].flat == "10.0% (to 88.0%)"
    assert table.lines.index(summary) + 1 == next(n for n, line in enumerate(table.lines) if line.folded)


def test_all_trials_have_a_row_failed_ones_included(answer, files):
    table = search_tables.trials(answer.run)
    assert [cell.value for cell in column(table, "trial_id")] == files["trials.csv"]["trial_id"].tolist()
    failed = [line for line in table.lines if line.cells[1].text == "FAILED"]
    assert len(failed) == 2 and column(table, "hr_at_10")[9].text == "–"


def test_a_baseline_has_no_difference_to_itself(answer):
    table = tables.fixed(answer)
    names = [cell.value for cell in column(table, "baseline")]
    to_all, to_none = (column(table, f"test_{kind}_hr_at_10") for kind in ("delta", "vs_none"))
    assert to_all[names.index("all")].text == "–" == to_none[names.index("none")].text
    assert to_all[names.index("none")].notes[1].startswith("p ")


def test_p_values_after_holm_s_correction_are_bounds_where_they_are_small(tmp_path, files):
    files["pareto.csv"]["test_delta_hr_at_10_p_holm"] = 0.0052
    table = tables.front(Answer(load(write(tmp_path / "run", files))))
    assert {cell.notes[-1] for cell in column(table, "test_delta_hr_at_10")} == {"p < .01"}


def test_the_page_marks_what_its_script_needs(tmp_path, files):
    render.render(write(tmp_path / "run", files))
    page = unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    for name in ("front", "baselines", "measurements", "trials", "parameters"):
        assert page.count(f'<table class="sortable" id="{name}">') == 1
        assert page.count(f'data-copy="LaTeX" data-of="{name}"') == 1
    assert page.count('<tr class="folded" hidden>') == 4 and page.count("<tr data-summary>") == 1
    assert 'data-name="test_hr_at_10"' in page
    assert {*re.findall(r'data-split="(\w+)"', page)} == {"both", "valid_", "test_"}
    assert "beforeprint" in page and "prefers-color-scheme: dark" in page
