"""The plain files of a search as one Run, and files that the user can mend."""

import pandas as pd
import pytest
from made_up_search import FILES, write

from etarec.config import UserError
from search.records.result_files import RESTORE
from search.report.__main__ import main
from search.report.files import load


def test_numbers_are_numbers_and_names_are_text(directory, files):
    for name in ("trials.csv", "pareto.csv"):
        files[name]["trial_id"] = [f"{number:03d}" for number in range(len(files[name]))]
    files["chosen.yaml"]["trial_id"] = "000"
    run = load(write(directory, files))
    assert run.front["trial_id"][0] == "000" and run.front["test_hr_at_10"].dtype == float
    assert (len(run.finished), run.items, run.quality) == (29, 10672, "hr_at_10")
    assert run.parameters == ["top_k", "entropy_quantile", "cosine_threshold"]
    assert run.trials["top_k"].isna().any()  # `top_k: null`, and trials without a result
    assert run.filters == ["filtered_by_entropy", "filtered_by_redundancy"]


def test_a_search_that_did_not_reach_test_has_every_test_column(directory, files):
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name][[column for column in files[name] if "test" not in column]]
    run = load(write(directory, files))
    assert run.view.split == "valid" and run.front["test_hr_at_10"].isna().all()
    assert run.front["test_delta_hr_at_10_p_holm"].isna().all()


def test_a_part_of_the_filter_rate_without_a_column_is_zero(directory, files):
    for name in ("pareto.csv", "baselines.csv"):
        files[name]["valid_filtered_by_seen"] = 0.04
    run = load(write(directory, files))
    assert (run.front["test_filtered_by_seen"] == 0).all() and "filtered_by_seen" in run.filters


@pytest.mark.parametrize("empty", ["header", "nothing"])
def test_files_without_a_row_may_lack_the_columns(directory, files, empty):
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        files[name] = files[name].iloc[:0] if empty == "header" else pd.DataFrame()
    del files["chosen.yaml"]
    run = load(write(directory, files))
    assert run.finished.empty and run.front.empty and run.chosen == {} and run.view.split == "valid"


def spoil(name, content):
    def change(directory):
        (directory / name).write_bytes(content)

    return change


def replace_in(name, old, new):
    def change(directory):
        text = (directory / name).read_text()
        assert old in text
        (directory / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_one_message(directory, files, name, capsys):
    write(directory, files)
    (directory / name).unlink()
    assert main([str(directory)]) == 2
    reason = "cannot be read (No such file or directory), expected a file that each search writes"
    assert capsys.readouterr().err == f"error: {directory / name}: {reason}; {RESTORE}\n"
    assert not (directory / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("spec.yaml", b"name: x"), "spec.yaml: space: given nothing, expected a mapping of the searched"),
        (spoil("provenance.json", b'{"data": "x"}'), 'provenance.json: data: given "x", expected a mapping'),
        (spoil("trials.csv", b"a,b\n1,2,3,4\n5\n"), "trials.csv: no column trial_id, state, "),
        (spoil("trials.csv", b'a,b\n"1,2\n'), "trials.csv: cannot be parsed (Error tokenizing data."),
        (replace_in("trials.csv", "hr_at_10", "hr"), "trials.csv: no column hr_at_10, expected the columns trial_id,"),
        (replace_in("pareto.csv", ",0.0", ",zero."), "pareto.csv: row 1, column "),
        (spoil("chosen.yaml", b"trial_id: other"), 'chosen.yaml: trial_id: given "other", expected the trial_id of a'),
    ],
)
def test_a_damaged_file_is_one_message(directory, files, change, message, capsys):
    change(write(directory, files))
    assert main([str(directory)]) == 2
    error = capsys.readouterr().err
    assert f"error: {directory}/{message}" in error and error.endswith(f"; {RESTORE}\n") and error.count("\n") == 1


def test_a_point_without_its_validation_numbers_is_named(directory, files):
    files["pareto.csv"].loc[1, "valid_filter_rate"] = None
    name = files["pareto.csv"]["trial_id"][1]
    with pytest.raises(UserError, match=f"pareto.csv: row {name}: nothing in valid_hr_at_10 or valid_filter_rate"):
        load(write(directory, files))


def test_missing_folder_is_one_message(directory):
    with pytest.raises(UserError, match="no such folder; expected the folder of a search"):
        load(directory)


@pytest.mark.parametrize("objectives", [["mrr", "filter_rate"], ["filter_rate"], "hr_at_10", None])
def test_objectives_without_a_quality_metric_are_one_message(directory, files, objectives):
    files["spec.yaml"]["search"]["objectives"] = objectives
    with pytest.raises(UserError, match=r"spec.yaml: search.objectives: given .*, expected filter_rate and one"):
        load(write(directory, files))


def test_a_spec_without_objectives_has_the_default_ones(directory, files):
    del files["spec.yaml"]["search"]["objectives"]
    assert load(write(directory, files)).quality == "hr_at_10"


@pytest.mark.parametrize(
    ("constraints", "tolerated"),
    [
        ({}, 0.005),
        ({"hr_at_10": ">= 0.98 * all"}, 0.02),
        ({"hr_at_10": ">= 0.999 * all"}, 0.005),
        ({"hr_at_10": ">= 0.9 * none", "ndcg_at_10": ">= 0.9 * all", "arithmetic": "<= 0.5 * all"}, 0.005),
        ({"hr_at_10": ">= 0.05"}, 0.005),
    ],
)
def test_a_bound_on_the_quality_says_what_is_tolerated(directory, files, constraints, tolerated):
    files["spec.yaml"]["search"] |= {"choose": {"tolerance": 0.005}, "constraints": constraints}
    assert load(write(directory, files)).tolerance == pytest.approx(tolerated)


@pytest.mark.parametrize(
    ("constraints", "bounded"),
    [({}, False), ({"ndcg_at_10": ">= 0.99 * all"}, False), ({"filter_rate": ">= 0.5"}, True)],
)
def test_a_constraint_on_an_objective_bounds_the_area_of_the_search(directory, files, constraints, bounded):
    files["spec.yaml"]["search"]["constraints"] = constraints
    assert load(write(directory, files)).bounded is bounded


@pytest.mark.parametrize("constraints", [{"hr_at_10": "many"}, ["hr_at_10"], {"hr_at_10": 0.5}])
def test_bounds_that_are_none_are_one_message(directory, files, constraints):
    files["spec.yaml"]["search"]["constraints"] = constraints
    with pytest.raises(UserError, match=r"spec.yaml: search.constraints: .*, expected bounds by metric"):
        load(write(directory, files))
