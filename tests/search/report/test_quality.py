"""A report on a search for each quality metric: its words, tables and plots are about that metric."""

import re
from html import unescape

import pytest
from made_up_search import made_up_files, write
from matplotlib.figure import Figure

from etarec.metrics import QUALITY_METRICS, label
from search.numbers import p_value, signed
from search.report import maps, pareto_plot, plots, render, seconds, shrinkage

METRIC = re.compile(r"(?:HR|NDCG)@\d+")


@pytest.fixture(scope="module", params=QUALITY_METRICS)
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def files(metric):
    """A search in which every other metric speaks against the gate."""
    files = made_up_files(metric)
    for name in (name for name in QUALITY_METRICS if name != metric):
        files["pareto.csv"] = files["pareto.csv"].assign(**{f"test_vs_random_{name}": -0.01})
    return files


@pytest.fixture(scope="module")
def drawn():
    """The figures of the report: plotly's by their ids in the page, and matplotlib's."""
    figures = {}
    fragment, save, users = plots.fragment, Figure.savefig, (pareto_plot, maps, shrinkage, seconds)

    def keep_plotly(figure, div_id, options):
        figures[div_id] = figure
        return fragment(figure, div_id, options)

    def keep_matplotlib(figure, *given, **options):
        figures["png"] = figure
        save(figure, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        for module in users:
            patch.setattr(module, "fragment", keep_plotly)
        patch.setattr(Figure, "savefig", keep_matplotlib)
        yield figures


@pytest.fixture(scope="module")
def report(tmp_path_factory, files, drawn):
    """(the page without plotly's script, the Markdown)"""
    drawn.clear()
    return rendered(write(tmp_path_factory.mktemp("search") / "run", files))


def rendered(directory):
    render.render(directory)
    page = (directory / "report.html").read_text(encoding="utf-8")
    before, after = page.split("<script>", 1)
    return unescape(before + after.split("</script>", 1)[1]), (directory / "report.md").read_text(encoding="utf-8")


def chosen_row(files):
    front = files["pareto.csv"]
    return front[front["trial_id"] == files["chosen.yaml"]["trial_id"]].iloc[0]


def evidence(row, difference, sign=1):
    """Interval and p-value of a difference, or of the reversed one with sign -1."""
    low, high = sorted(sign * row[f"{difference}_{end}"] for end in ("low", "high"))
    return f" (95% interval {signed(low)} to {signed(high)}, p {p_value(row[f'{difference}_p'])})"


def without_tables(page, markdown):
    yield re.sub(r"<table.*?</table>", "", page, flags=re.DOTALL)
    yield unescape("\n".join(line for line in markdown.splitlines() if not line.startswith("|")))


def tables(markdown):
    """Every table as (its header's cells, its rows' cells)."""
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("| \n").split(" | ")] for line in block.splitlines())
        yield header, rows


def test_no_text_names_another_metric(report, metric):
    for text in without_tables(*report):
        assert set(METRIC.findall(text)) == {label(metric)}


def test_the_answer_quotes_the_metric_s_numbers(report, files, metric):
    row, baselines = chosen_row(files), files["baselines.csv"].set_index("trial_id")
    tested = baselines[f"test_{metric}"]
    points = len(files["pareto.csv"])
    gained = 100 * (tested["all"] - tested["none"]) / tested["none"]
    expected = [
        f"{label(metric)} on test is {tested['none']:.4f} without adaptation",
        f"Adapting on every sample adds {gained:.1f}% (95%: ",
        f") of {label(metric)}.",
        f"adds {tested['all'] - tested['none']:.4f}{evidence(baselines.loc['none'], f'test_delta_{metric}', -1)}",
        f"Random skipping scores {tested['random']:.4f} with",
        f" higher{evidence(baselines.loc['random'], f'test_vs_chosen_{metric}', -1)} with "
        f"{row.test_filter_rate:.1%} skipped.",
        f"Compared with random skipping of as many passes, {points} of {points} front points score higher; with "
        f"all comparisons counted, {points} clearly higher and none clearly lower (p < .05 after Holm's correction).",
        f"The published gate scores {tested['published']:.4f} with",
    ]
    for text in without_tables(*report):
        assert [part for part in expected if part not in text] == []


def test_the_tiles_quote_the_metric_s_numbers(report, files, metric):
    row = chosen_row(files)
    tiles = report[0].split('class="tiles"')[1].split("<ul")[0]
    low, high = row[f"test_{metric}_low"], row[f"test_{metric}_high"]
    assert f"<b>{row[f'test_{metric}']:.4f}</b><span>{label(metric)} on test, 95%: {low:.4f} to {high:.4f}" in tiles
    delta = f"{row[f'test_delta_{metric}']:+.4f}".replace("-", "\N{MINUS SIGN}")
    assert f"<b>{delta}</b><span>{label(metric)} compared with adapting on every sample" in tiles


def test_the_tables_have_the_metric_s_columns(report, files, metric):
    beside = "ndcg_at_10" if metric == "hr_at_10" else "hr_at_10"
    front, others, baselines = list(tables(report[1]))[:3]
    differences = [f"{label(metric)} Δ to {other}" for other in ("all", "random", "none")]
    assert [cell for cell in front[0] if "Δ" in cell] == differences
    assert [cell for cell in baselines[0] if "Δ" in cell] == [differences[0], differences[2]]
    assert [cell for cell in others[0] if "@" in cell and "Δ" not in cell] == [
        label(name) for name in QUALITY_METRICS if name != metric
    ]
    assert f"{label(beside)} Δ to all" in others[0]
    for (header, lines), name in ((front, "pareto.csv"), (baselines, "baselines.csv")):
        rows = files[name].set_index("trial_id")
        place = header.index(f"valid {label(metric)}")
        for line in (line for line in lines if not line[0].startswith("random, ")):
            row = rows.loc[line[0].split(" (")[0]]
            bounds = f"({row[f'test_{metric}_low']:.4f} to {row[f'test_{metric}_high']:.4f})"
            assert line[place : place + 2] == [f"{row[f'valid_{metric}']:.4f}", f"{row[f'test_{metric}']:.4f} {bounds}"]


def test_the_page_s_tables_hold_the_same_numbers(report, files, metric):
    tables = " ".join(re.findall(r"<table.*?</table>", report[0], flags=re.DOTALL))
    for row in [*files["pareto.csv"].to_dict("records"), *files["baselines.csv"].to_dict("records")]:
        bounds = f"<small>{row[f'test_{metric}_low']:.4f} to {row[f'test_{metric}_high']:.4f}</small>"
        assert f">{row[f'test_{metric}']:.4f}{bounds}</td>" in tables
        assert f'data-value="{row[f"test_{metric}"]}"' in tables


def test_every_plot_shows_the_metric(report, drawn, files, metric):
    front = files["pareto.csv"]
    png = drawn["png"].axes[0]
    interactive = {name: figure for name, figure in drawn.items() if name != "png"}
    scattered = {c.get_label(): c.get_offsets()[:, 1].tolist() for c in png.collections if len(c.get_offsets())}
    assert png.get_ylabel() == label(metric)
    pareto = {trace.name: list(trace.y) for trace in drawn["pareto-plot"].data}
    for name, column in (("front, validation", f"valid_{metric}"), ("front, test", f"test_{metric}")):
        assert scattered[name] == pytest.approx(front[column].tolist()) == pareto[name]
    objective = {name: figure for name, figure in interactive.items() if not name.startswith("map-")}
    assert {f.layout.yaxis.title.text for f in objective.values()} <= {label(metric), f"{label(metric)} on test"}
    assert len(objective) == 6 and len(interactive) == 9
    finished = files["trials.csv"].query("state == 'FINISHED'")
    assert list(drawn["plot-top_k"].data[0].y) == pytest.approx(finished[metric].tolist())


def test_a_search_cut_off_before_test_is_about_its_metric(tmp_path):
    metric, files = "hr_at_50", made_up_files("hr_at_50")
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name][[column for column in files[name] if "test" not in column]]
    for text in without_tables(*rendered(write(tmp_path / "run", files))):
        assert set(METRIC.findall(text)) == {label(metric)}
        assert "not measured on test" in text
        assert f"{chosen_row(files)[f'valid_{metric}']:.4f}" in text
