"""The pages in a real browser: report, comparison and MLflow. Elements are found by role, name and data attributes."""

import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import mlflow
import pandas as pd
import pytest
import yaml
from browser import PATIENCE, Visit, chromium, visit
from made_up_searches import folder
from playwright.sync_api import Browser, expect
from tracked_searches import measure, new_records, result
from tracking_server import Server

from search.compare.render import render as compare
from search.records.states import State
from search.report.render import render as report
from search.track.live import Tracker

pytestmark = pytest.mark.browser
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.dataset.value ?? cell.textContent))"
TRACE = """([id, name]) => document.getElementById(id)._fullData
    .filter(one => one.name === name).map(one => [[...one.x], [...one.y]])"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = folder(tmp_path_factory.mktemp("browser") / "first")
    report(place)
    return place


@pytest.fixture(scope="module")
def comparison(search: Path) -> Path:
    compare([search, folder(search.parent / "second", train__seed=1)], search.parent / "out")
    return search.parent / "out"


def table(one: Visit, name: str) -> pd.DataFrame:
    """The values of a table of the page, by the names of its columns."""
    names = one.page.locator(f"table#{name} thead th[data-name]").evaluate_all("all => all.map(th => th.dataset.name)")
    return pd.DataFrame(one.page.locator(f"table#{name} tbody tr").evaluate_all(CELLS), columns=names)


def trace(one: Visit, plot: str, name: str) -> pd.DataFrame:
    """The points of a plot's trace, sorted."""
    ((x, y),) = one.page.evaluate(TRACE, [plot, name])
    return pd.DataFrame({"x": x, "y": y}).sort_values(["x", "y"], ignore_index=True)


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (688, "print")], ids=["phone", "sheet"])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_page_fits_a_phone_and_its_plots_a_sheet(
    browser: Browser, search: Path, comparison: Path, name: str, width: int, media: str
) -> None:
    """An A4 sheet between its margins is 688 pixels wide; a browser scales it down to its widest table."""
    file = {"report": search, "compare": comparison}[name] / f"{name}.html"
    with visit(browser, file.as_uri(), viewport={"width": width, "height": 900}) as one:
        if media == "print":
            one.page.emulate_media(media="print")
            one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        else:
            assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        rights = "[...document.querySelectorAll('.main-svg')].map(one => one.getBoundingClientRect().right)"
        one.page.wait_for_function(f"width => Math.max(...{rights}) <= width", arg=width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_page_is_clean_and_accessible_in_both_schemes(
    browser: Browser, search: Path, comparison: Path, name: str, scheme: str
) -> None:
    file = {"report": search, "compare": comparison}[name] / f"{name}.html"
    with visit(browser, file.as_uri(), color_scheme=scheme) as one:
        expect(one.page.get_by_role("heading", level=1)).to_be_visible()
        assert one.serious_findings() == []
        one.assert_clean()


def test_the_report_s_table_and_plot_agree_with_the_files(browser: Browser, search: Path) -> None:
    front = pd.read_csv(search / "pareto.csv")
    with visit(browser, (search / "report.html").as_uri()) as one:
        shown = table(one, "front").set_index("trial_id")
        assert set(shown.index) == set(front["trial_id"])
        drawn = trace(one, "pareto-plot", "front, test")
    expected = pd.DataFrame({"x": 100 * front["test_filter_rate"], "y": front["test_hr_at_10"]})
    pd.testing.assert_frame_equal(drawn, expected.sort_values(["x", "y"], ignore_index=True))


def test_sorting_hover_and_copy_work(browser: Browser, search: Path) -> None:
    with visit(browser, (search / "report.html").as_uri()) as one:
        header = one.page.locator("table#front thead th[data-name='entropy_quantile']")
        for direction, rising in (("ascending", True), ("descending", False)):
            header.get_by_role("button").click()
            expect(header).to_have_attribute("aria-sort", direction)
            values = table(one, "front")["entropy_quantile"].astype(float)
            assert values.tolist() == sorted(values, reverse=not rising)
        one.page.locator("[data-copy='CSV'][data-of='front']").click()
        one.page.wait_for_function("window.copied")
        copied = pd.read_csv(io.StringIO(one.page.evaluate("window.copied")))
        pd.testing.assert_frame_equal(copied.astype(str), table(one, "front").astype(str), check_dtype=False)
        point = one.page.locator("#pareto-plot .scatterlayer .trace.scatter .points path").last
        point.scroll_into_view_if_needed()
        point.hover(force=True)
        expect(one.page.locator("#pareto-plot .hoverlayer")).to_contain_text("HR@10")
        one.assert_clean()


def test_the_switch_of_splits_hides_a_split_and_a_drag_along_an_axis_marks_trials(
    browser: Browser, search: Path
) -> None:
    with visit(browser, (search / "report.html").as_uri()) as one:
        one.page.locator("[data-split='test_']").click()
        shown = "document.getElementById('pareto-plot').data.filter(one => one.visible !== false).map(one => one.meta)"
        assert set(one.page.evaluate(shown)) == {"test_"}
        axis = one.page.locator("#parallel .brush").first
        axis.scroll_into_view_if_needed()
        box = axis.bounding_box()
        assert box is not None
        one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.1)
        one.page.mouse.down()
        one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.5)
        one.page.mouse.up()
        expect(one.page.locator("#marked")).to_contain_text("of 29 trials marked")
        marked = int(one.page.locator("#marked").inner_text().split()[0])
        assert 0 < marked < 29 and one.page.locator("tr[data-trial]:not(.out)").count() == marked
        one.assert_clean()


def test_the_comparison_agrees_with_its_file_and_its_searches(browser: Browser, search: Path, comparison: Path) -> None:
    with visit(browser, (comparison / "compare.html").as_uri()) as one:
        shown = table(one, "verdicts")
        drawn = trace(one, "fronts-plot", "first")
        one.page.locator("[data-copy='CSV'][data-of='verdicts']").click()
        one.page.wait_for_function("window.copied")
        copied = pd.read_csv(io.StringIO(one.page.evaluate("window.copied")))
        one.assert_clean()
    file = pd.read_csv(comparison / "compare.csv")
    pd.testing.assert_frame_equal(copied, file)
    assert shown["search"].tolist() == ["first", "second"]
    front, fixed = (pd.read_csv(search / f"{name}.csv") for name in ("pareto", "baselines"))
    points = pd.concat([front, fixed[fixed["trial_id"].isin(["none", "all"])]])
    expected = pd.DataFrame({"x": 100 * points["test_filter_rate"], "y": points["test_hr_at_10"]})
    pd.testing.assert_frame_equal(drawn, expected.sort_values(["x", "y"], ignore_index=True))


# Names of searches, and how LaTeX gets them.
HOSTILE = {
    "=cmd()": "=cmd()",
    "[1mm] 50% & #_$": r"{[}1mm] 50\% \& \#\_\$",
    "*a {b}": r"{*}a \{b\}",
    "007": "007",
    "null": "null",
    "- a: 'b', \"c\"": "- a: 'b', \"c\"",
    "~^\\<script>|": r"\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}script\textgreater{}\textbar{}",
    "two\nlines\u2028 \x7f": "two lines ",
}


def test_copies_of_hostile_names_are_text_in_every_form(browser: Browser, tmp_path: Path) -> None:
    compare([folder(tmp_path / "in" / name) for name in HOSTILE], tmp_path / "out")
    copies = {}
    with visit(browser, (tmp_path / "out" / "compare.html").as_uri()) as one:
        columns = table(one, "verdicts").shape[1]
        for form in ("CSV", "YAML", "LaTeX"):
            one.page.evaluate("window.copied = null")
            one.page.locator(f"[data-copy='{form}'][data-of='verdicts']").click()
            one.page.wait_for_function("window.copied")
            copies[form] = one.page.evaluate("window.copied")
        one.assert_clean()
    rows = list(csv.reader(io.StringIO(copies["CSV"], newline="")))[1:]
    assert [row[0] for row in rows] == [f"'{name}" if name[0] in "=-" else name for name in HOSTILE]
    found = yaml.safe_load(copies["YAML"])
    assert [row["search"] for row in found] == list(HOSTILE) and {row["trials"] for row in found} == {29}
    lines = [line.removesuffix(r" \\") for line in copies["LaTeX"].splitlines() if line.endswith(r"\\")][1:]
    assert [line.split(" & ")[0] for line in lines] == [words.partition(" & ")[0] for words in HOSTILE.values()]
    assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {columns}


def test_mlflow_shows_a_search_by_its_names(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        records = new_records(tmp_path / "out", "shown")
        tracker = Tracker("shown", records, {"data.dataset": "simulated"}, pytest.fail)
        measure(records, tracker, range(3))
        assert tracker.close(State.FINISHED, {"area_share": 0.8}, {"trial-0002": records.trials[2].metrics}, None)
        experiment = mlflow.MlflowClient().get_experiment_by_name("shown")
        assert experiment is not None
        front = quote('tags.pareto = "true"')
        address = f"{server.address}/#/experiments/{experiment.experiment_id}/runs?searchFilter={front}"
        with visit(browser, address) as one:
            search = one.page.get_by_role("gridcell", name="shown on simulated")
            search.get_by_role("button").first.click()  # opens the search's own run
            expect(one.page.get_by_text("k2", exact=True).first).to_be_visible(timeout=PATIENCE)
            expect(one.page.get_by_text("Model training", exact=True).first).to_be_visible()  # the README names it
            assert one.strangers == []
            one.page.goto(f"{server.address}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=trials")
            for metric in ("hr_at_10", "filter_rate", "arithmetic"):
                header = one.page.get_by_role("columnheader", name=metric, exact=True).first
                expect(header).to_be_visible(timeout=PATIENCE)
            one.page.get_by_role("button", name="All trials").click()
            expect(one.page.get_by_text("Pareto front", exact=True)).to_be_visible()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mlflow_opens_a_search_of_500_trials(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads a hundred runs at once, and the next hundred on demand."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server.db")
    records = new_records(tmp_path / "out", "large")
    for number in range(500):
        records.started(number, {"top_k": number})
        records.finished(number, {**result(number), "hr_at_10": number / 1000}, {})
    tracker = Tracker("large", records, {"data.dataset": "simulated"}, pytest.fail)
    assert tracker.close(State.FINISHED, {}, {}, None)
    experiment = mlflow.MlflowClient().get_experiment_by_name("large")
    assert experiment is not None
    with Server(tmp_path) as server:
        address = f"{server.address}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=trials"
        begin = time.monotonic()
        with visit(browser, address) as one:
            expect(one.page.get_by_text("k499", exact=True)).to_be_visible(timeout=PATIENCE)
            opened = time.monotonic() - begin
            expect(one.page.get_by_text("100 matching runs")).to_be_visible()
    print(f"the table of 500 runs opened in {opened:.1f} s")
