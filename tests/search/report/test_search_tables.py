"""Tables about a search as a whole."""

import pytest
from made_up_search import made_up_files, write

from search.report import search_tables
from search.report.answer import Answer
from search.report.files import load
from search.report.importance import Share


def column(table, name):
    place = [column.name for column in table.columns].index(name)
    return [line.cells[place] for line in table.lines]


@pytest.fixture
def files():
    return made_up_files()


def test_costs_are_per_1000_samples_and_compared_with_adapting_on_all(tmp_path, files):
    answer = Answer(load(write(tmp_path / "run", files)))
    table = search_tables.costs(answer, 0.05)
    names = [cell.value for cell in column(table, "configuration")]
    assert names == ["none", "all", "random", "naive", "published", files["chosen.yaml"]["trial_id"]]
    everything = files["baselines.csv"].set_index("trial_id").loc["all"]
    assert column(table, "adaptation_ms")[1].value == pytest.approx(1e6 * everything.test_adapt_seconds / 98759)
    assert column(table, "compared")[1].text == "–" and "less (" in column(table, "compared")[0].text
    assert sum(size for _, size in column(table, "bar")[1].bar) == pytest.approx(100)
    files["provenance.json"]["data"].pop("samples")
    assert search_tables.costs(Answer(load(write(tmp_path / "run", files))), 0.05).lines == []


def test_importance_has_its_interval(tmp_path, files):
    run = load(write(tmp_path / "run", files))
    share = {name: Share(0.4, 0.1, 0.7) for name in run.parameters}
    table = search_tables.effects(run, {"hr_at_10": share, "filter_rate": share})
    assert {cell.flat for cell in column(table, "importance_hr_at_10")} == {"40% (10% to 70%)"}
    assert not any("importance" in one.name for one in search_tables.effects(run, {}).columns)


@pytest.mark.parametrize(
    ("store", "address"),
    [
        ("http://tracking:5000/", f"http://tracking:5000/#/runs/{0:032x}"),
        ("https://...@tracking", ""), ("sqlite:///mlflow.db", ""), (None, ""),
    ],
)  # fmt: skip
def test_a_trial_leads_to_its_run_where_the_store_has_pages(tmp_path, files, store, address):
    files["provenance.json"]["tracking"] = store
    table = search_tables.trials(load(write(tmp_path / "run", files)))
    assert column(table, "mlflow_run_id")[0].address == address
