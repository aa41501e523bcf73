"""The verdicts and the differing settings of several searches."""

from pathlib import Path

from made_up_search import made_up_files
from made_up_searches import folder

from search.compare.searches import load_all
from search.compare.tables import settings, verdicts


def test_a_line_has_the_verdict_the_choice_and_the_size_of_the_front(tmp_path: Path) -> None:
    searches = load_all(
        [folder(tmp_path / "a"), folder(tmp_path / "b", train__seed=1, search__objectives=["filter_rate", "hr_at_10"])]
    )
    table = verdicts(searches)
    names = [column.name for column in table.columns]
    values = dict(zip(names, (cell.value for cell in table.lines[0].cells), strict=True))
    files = made_up_files()
    chosen = files["pareto.csv"].set_index("trial_id").loc[files["chosen.yaml"]["trial_id"]]
    assert values["verdict"] == str(searches[0].answer.advice.verdict)
    assert (values["hr_at_10"], values["skipped"]) == (chosen.test_hr_at_10, chosen.test_filter_rate)
    assert (values["none"], values["all"], values["area_share"], values["trials"]) == (0.0795, 0.0894, 0.8, 29)
    assert [[cell.text for cell in line.cells] for line in settings(searches).lines] == [
        ["search.objectives", "hr_at_10, filter_rate", "filter_rate, hr_at_10"],
        ["train.seed", "null", "1"],
    ]
