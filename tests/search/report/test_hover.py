"""The text that shows when the pointer is over a point."""

from made_up_search import write

from search.report.answer import Answer
from search.report.files import load
from search.report.hover import WIDTH, hover_of


def test_a_point_shows_its_configuration_interval_differences_and_run(directory, files):
    answer = Answer(load(write(directory, files)))
    name = files["chosen.yaml"]["trial_id"]
    row = files["pareto.csv"].set_index("trial_id").loc[name]
    trial = files["trials.csv"].set_index("trial_id").loc[name]
    lines = hover_of(answer)(name, "test_").split("<br>")
    assert lines[0] == f"<b>{name}</b>"
    assert lines[1].startswith(f"HR@10 {row.test_hr_at_10:.4f} (95% interval {row.test_hr_at_10_low:.4f} to ")
    assert f"{row.test_filter_rate:.1%} of the passes skipped" in lines
    assert any("adapting on every sample:" in line or "all:" in line for line in lines[3:])
    assert f"top_k {trial.top_k}, " in lines[-2] and lines[-1] == f"MLflow run {trial.mlflow_run_id}"


def test_validation_alone_and_baselines_have_a_text(directory, files):
    answer = Answer(load(write(directory, files)))
    other = next(n for n in files["trials.csv"]["trial_id"] if n not in set(files["pareto.csv"]["trial_id"]))
    assert "on validation" in hover_of(answer)(other, "valid_")
    assert hover_of(answer)("none", "test_").startswith("<b>none</b><br>HR@10 0.0795 (95% interval ")


def test_many_settings_are_told_in_lines_that_fit(directory, files):
    for name in ("entropy_quantile_of_a_long_name", "another_setting", "a_third_setting"):
        files["trials.csv"][name] = files["pareto.csv"][name] = files["baselines.csv"][name] = 0.123456
        files["spec.yaml"]["space"][name] = {"low": 0.0, "high": 1.0}
    answer = Answer(load(write(directory, files)))
    lines = hover_of(answer)(files["chosen.yaml"]["trial_id"], "test_").split("<br>")
    settings = " ".join(line for line in lines[4:-1])
    assert "another_setting 0.123" in settings and all(len(line) <= WIDTH for line in lines[-4:-1])
