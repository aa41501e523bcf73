"""Trials that end early, in every place that tells of them, and after an interruption."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from formula import WatchedFormula

from search import experiment
from search.experiment import Experiment
from search.records.journal import JOURNAL
from search.records.records import Records
from search.records.states import Ending, State
from search.spec import load

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SPACE = {
    "top_k": {"low": 2, "high": 500, "log": True},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}
TRIALS = 12


def search(folder: Path, resume: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "space.yaml"
    settings = {"trials": TRIALS, "concurrency": 2, "bootstrap_replicates": 50}
    file.write_text(yaml.safe_dump({"name": folder.name, "space": SPACE, "search": settings}))
    ran = Experiment(load(file), folder / "out", resume=resume)
    assert experiment.run(ran, WatchedFormula(), n_items=1000) is Ending.COMPLETE
    return folder / "out"


def ends(folder: Path) -> list[tuple[State, str, str]]:
    return [(trial.state, trial.error, repr(trial.parameters)) for trial in Records(folder).in_state(*State)]


def test_pruned_trials_are_told_as_such_and_end_at_the_same_sample_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    whole = search(tmp_path / "whole")
    table = pd.read_csv(whole / "trials.csv").set_index("trial_id")
    pruned = table[table["state"] == "PRUNED"]
    assert 0 < len(pruned) < TRIALS
    assert pruned["hr_at_10"].isna().all() and pruned["error"].str.contains("is better in both objectives").all()
    assert not set(pruned.index) & set(pd.read_csv(whole / "pareto.csv")["trial_id"])
    assert f"{len(pruned)} pruned" in (whole / "report.md").read_text()
    store = mlflow.MlflowClient()
    runs = store.search_runs([store.get_experiment_by_name("whole").experiment_id], "tags.pruned = 'true'")
    assert [(run.info.status, run.data.metrics) for run in runs] == [("KILLED", {})] * len(pruned)

    cut = tmp_path / "cut" / "out"
    cut.mkdir(parents=True)
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    (cut / JOURNAL).write_bytes(b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:20])
    assert ends(search(cut.parent, resume=True)) == ends(whole)
