"""A search for each quality metric, from its trials to its files, its report and its terminal lines."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from formula import GradedFormula

from etarec.checkpoint import Checkpoint
from etarec.config import ModelConfig, SplitName, TrainConfig
from etarec.disk import write_whole
from etarec.evaluate import Measurement
from etarec.metrics import QUALITY_METRICS, QualityMetric, label
from search import experiment
from search.console import Console
from search.experiment import Experiment
from search.records.records import Records
from search.records.states import Ending, State
from search.report import render
from search.report.answer import Answer
from search.report.files import load as load_run
from search.selection.documents import chosen_document, tables
from search.selection.front import Selection, remeasure, select
from search.selection.pareto import hypervolume, non_dominated
from search.spec import Spec, load, to_yaml, trial_config, trial_seed, values_of
from search.subject import Job

N_ITEMS = 1000
METRIC = re.compile(r"(?:HR|NDCG)@\d+")
SPACE = {
    "top_k": {"low": 2, "high": 500, "log": True},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}


def spec_of(folder: Path, metric: QualityMetric, **search: object) -> Spec:
    file = folder / "space.yaml"
    search = {
        "objectives": [metric, "filter_rate"],
        "bootstrap_replicates": 50,
        "trials": 12,
        "retest": "all",
        **search,
    }
    file.write_text(yaml.safe_dump({"name": "formula", "space": SPACE, "search": search}))
    return load(file)


def recorded(spec: Spec, directory: Path) -> Records:
    """Twelve finished trials."""
    records, rng = Records(directory), np.random.default_rng(4)
    records.begin({})
    for number in range(12):
        quantile, cosine = float(rng.uniform(0.05, 1.0)), float(rng.uniform(0.01, 1.0))
        parameters = {"top_k": int(rng.integers(2, 500)), "entropy_quantile": quantile, "cosine_threshold": cosine}
        config = trial_config(spec, parameters)
        records.started(number, parameters)
        measured = GradedFormula().measure(config, "valid", trial_seed(0, config))
        records.finished(number, measured.metrics(), measured.curve(spec.search.quality))
    records.write_table()
    return records


def on(split: SplitName):
    def measure(jobs: Sequence[Job]) -> Iterator[Measurement]:
        return (GradedFormula().measure(job.config, split, job.seed) for job in jobs)

    return measure


def searched(folder: Path, metric: QualityMetric) -> tuple[Spec, Records, Selection]:
    """A whole search without Ray, its files and its report."""
    spec = spec_of(folder, metric)
    records = recorded(spec, folder)
    selection = select(spec, records.in_state(State.FINISHED), N_ITEMS, on("valid"))
    selection = remeasure(spec, selection, on("test"))
    for name, table in zip(("pareto", "baselines"), tables(spec, selection), strict=True):
        table.to_csv(folder / f"{name}.csv", index=False)
    write_whole(folder / "spec.yaml", to_yaml(spec))
    write_whole(folder / "provenance.json", json.dumps({}))
    write_whole(folder / "chosen.yaml", yaml.safe_dump(chosen_document(spec, selection)))
    render.render(folder)
    return spec, records, selection


@pytest.mark.parametrize("metric", QUALITY_METRICS)
def test_files_report_and_terminal_are_about_the_searched_metric(
    metric: QualityMetric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, records, _ = searched(tmp_path, metric)
    console = Console()
    with console.trials(spec, records) as show:
        show(records.trials[0])
    console.result(spec, records, Answer(load_run(tmp_path)), tmp_path, Ending.COMPLETE)
    terminal = capsys.readouterr().out
    front, baselines = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("pareto", "baselines"))
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert set(METRIC.findall(terminal)) == {label(metric)}
    assert f"trial-0000  {label(metric)} {trials[metric][0]:.4f}  skipped" in terminal
    shown = baselines[~baselines.trial_id.str.startswith("random ")]
    for row in [*front.to_dict("records"), *shown.to_dict("records")]:
        rates = [f"{row[f'{split}_filter_rate']:.1%}" for split in ("valid", "test")]
        line = next(line for line in terminal.splitlines() if re.match(rf"{row['trial_id']}( |$)", line))
        cells = [rates[0], f"{row[f'valid_{metric}']:.4f}", rates[1], f"{row[f'test_{metric}']:.4f}"]
        assert " ".join(cells) in " ".join(line.split())

    chosen = yaml.safe_load((tmp_path / "chosen.yaml").read_text())
    assert set(METRIC.findall(chosen["why"] + chosen["rule"])) == {label(metric)}
    assert set(front.trial_id) == set(trials.trial_id[non_dominated(trials[[metric, "filter_rate"]].to_numpy())])
    row = front.set_index("trial_id").loc[chosen["trial_id"]]
    reference = max(front[f"valid_{metric}"].max(), baselines.set_index("trial_id")[f"valid_{metric}"]["all"])
    assert f" of {reference:.4f}, " in chosen["why"] and f"{row[f'valid_{metric}']:.4f}" in chosen["why"]
    assert row[f"test_{metric}_low"] <= row[f"test_{metric}"] <= row[f"test_{metric}_high"]
    answer = (tmp_path / "report.md").read_text().split("\n## ")[0]
    assert set(METRIC.findall(answer)) == {label(metric)}
    assert str(Answer(load_run(tmp_path)).advice.title) in answer


@pytest.mark.parametrize("metric", QUALITY_METRICS)
def test_the_checkpoint_s_lines_quote_the_searched_metric(
    metric: QualityMetric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valid = dict(zip(QUALITY_METRICS, (0.11, 0.12, 0.13, 0.14), strict=True))
    trained = Checkpoint(ModelConfig(), TrainConfig(), {}, np.array(["a"]), "", epochs=3, valid=valid)
    spec, console = spec_of(tmp_path, metric), Console()
    console.checkpoint(spec, trained, tmp_path / "c.safetensors")
    console.rehearsal(spec, Counted(), trained, tmp_path / "r.safetensors")  # type: ignore[arg-type]
    checkpoint, rehearsal = capsys.readouterr().out.split("\nrehearsal ")
    assert f"validation {label(metric)} {valid[metric]:.4f}" in checkpoint and "NDCG@10 0.1200" in checkpoint
    assert f"the trials' samples: {label(metric)} {valid[metric]:.4f}\n" in rehearsal


class Counted:
    def sample_counts(self) -> dict[str, int]:
        return {"train": 9, "valid": 9, "test": 9}


THREE = ["hr_at_10", "filter_rate", "cost"]


@pytest.fixture
def its_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow writes to mlflow.db below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("its_own_store")
def test_a_real_search_by_three_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, MLflow, page and terminal hold the cost; a search that was cut off goes on with the same suggestions."""
    spec = spec_of(tmp_path, "hr_at_10", objectives=THREE, trials=12, concurrency=2, random_points=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert experiment.run(Experiment(spec, whole), GradedFormula(), N_ITEMS) is Ending.COMPLETE
    assert re.search(r"trial-0011 .* compute +\d+%  cost +\d+%", capsys.readouterr().out)
    half = replace(spec, search=replace(spec.search, trials=7))
    experiment.run(Experiment(half, parts), GradedFormula(), N_ITEMS)
    assert experiment.run(Experiment(spec, parts, resume=True), GradedFormula(), N_ITEMS) is Ending.COMPLETE
    one, other = (Records(folder).in_state(State.FINISHED) for folder in (whole, parts))
    assert [trial.parameters for trial in one] == [trial.parameters for trial in other]

    anchors = [anchor.metrics for anchor in Records(whole).anchors.values()]
    everyone = np.array([values_of(THREE, metrics) for metrics in [*(trial.metrics for trial in one), *anchors]])
    kept = non_dominated(everyone)[: len(one)]
    front = pd.read_csv(whole / "pareto.csv")
    assert set(front.trial_id) == {trial.trial_id for trial, best in zip(one, kept, strict=True) if best}
    assert (front.valid_cost > 0).all() and front.test_cost.notna().all() and front.test_hr_at_10.notna().all()
    assert pd.read_csv(whole / "trials.csv").cost.notna().all()
    provenance = json.loads((whole / "provenance.json").read_text())["search"]
    box = (0.5 - 0.2) * 1 * (1 - Records(whole).anchors["none"].metrics["cost"])
    assert provenance["area_share"] == pytest.approx(hypervolume(everyone, [0.2, 0.0, -1.0]) / box)
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(one[0].mlflow_run_id)
    assert run.data.metrics["cost"] == pytest.approx(one[0].metrics["cost"])
    page = (whole / "report.html").read_text()
    assert "The other objectives" in page and "objectives-cost-filter_rate" in page
    chosen = yaml.safe_load((whole / "chosen.yaml").read_text())
    assert chosen["rule"].startswith("the point that costs least, of those whose HR@10") and "It saves" in chosen["why"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("its_own_store")
def test_a_real_search_for_hr_at_50(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(tmp_path, "hr_at_50", trials=6, concurrency=2, random_points=2)
    assert experiment.run(Experiment(spec, tmp_path / "out"), GradedFormula(), N_ITEMS) is Ending.COMPLETE
    assert set(METRIC.findall(capsys.readouterr().out)) == {"HR@50"}
    finished = Records(tmp_path / "out").in_state(State.FINISHED)
    assert all(trial.curve.keys() == {"samples", "hr_at_50", "filter_rate"} for trial in finished) and finished
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(finished[0].mlflow_run_id)
    assert {name for name in run.data.metrics if name.startswith("stream_")} == {
        "stream_hr_at_50",
        "stream_filter_rate",
    }
    trials, front = (pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("trials", "pareto"))
    anchors = [anchor.metrics for anchor in Records(tmp_path / "out").anchors.values()]
    rivals = [[metrics["hr_at_50"], metrics["filter_rate"]] for metrics in anchors]
    everything = np.concatenate([trials[["hr_at_50", "filter_rate"]].to_numpy(), rivals])
    expected = trials[non_dominated(everything)[: len(trials)]]
    assert set(front.trial_id) == set(expected.trial_id) and len(anchors) == 7
    assert (front.test_hr_at_50_low < front.test_hr_at_50).all() and front.test_delta_hr_at_50_p.notna().all()
    assert front.test_hr_at_10_low.notna().all() and front.test_delta_hr_at_10.notna().all()
    chosen = front.set_index("trial_id").loc[yaml.safe_load((tmp_path / "out/chosen.yaml").read_text())["trial_id"]]
    document = yaml.safe_load((tmp_path / "out/chosen.yaml").read_text())
    assert document["advice"].startswith(Answer(load_run(tmp_path / "out")).advice.title)
    assert chosen.test_hr_at_50_low < chosen.test_hr_at_50
