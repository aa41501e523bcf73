"""The plots of further objectives: one for each pair that the main plot does not show."""

from pathlib import Path

import pytest
from made_up_search import made_up_files, write

from search.report.answer import Answer
from search.report.files import load
from search.report.render import render
from search.report.sections import Sections


def three_objectives(folder: Path) -> None:
    files = made_up_files()
    files["spec.yaml"]["search"]["objectives"] = ["hr_at_10", "filter_rate", "cost"]
    files["provenance.json"]["search"]["area_share"] = 0.8
    files["trials.csv"] = files["trials.csv"].assign(cost=0.7)
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(valid_cost=0.7, test_cost=0.6)
    write(folder, files)


@pytest.mark.parametrize(
    ("objectives", "titles"),
    [
        (["hr_at_10", "filter_rate"], []),
        (["hr_at_10", "filter_rate", "cost"], ["HR@10 and cost", "filter rate and cost"]),
        (["ndcg_at_10", "cost"], ["NDCG@10 and cost", "cost and filter rate"]),
    ],
)
def test_each_pair_has_a_plot(tmp_path: Path, objectives: list[str], titles: list[str]) -> None:
    files = made_up_files(objectives[0])
    files["spec.yaml"]["search"]["objectives"] = objectives
    files["trials.csv"] = files["trials.csv"].assign(cost=0.7)
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(valid_cost=0.7, test_cost=0.6)
    write(tmp_path, files)
    plots = Sections(Answer(load(tmp_path))).plots(lambda name, prefix: name)["objectives"]
    assert [title for title, _ in plots] == titles
    assert all("objectives-" in drawn and "random skipping" in drawn for _, drawn in plots)


def test_the_page_says_what_its_verdict_leaves_out(tmp_path: Path) -> None:
    three_objectives(tmp_path)
    answer = Answer(load(tmp_path))
    assert answer.advice.reasons[-1].startswith("This weighs HR@10 against skipped passes and leaves out cost: ")
    render(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8").split("</script>", 1)[1]
    for words in (
        "they leave out cost.",
        "in all objectives on validation",
        "of the volume between",
        answer.advice.reasons[-1],
    ):
        assert words in page
