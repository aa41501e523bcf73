"""The page docs/own-model.md, word for word: its model, its gate and its conversion of weights in real searches."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from etarec import data
from etarec.config import DataConfig
from tests.faults.stage import ENVIRONMENT, ROOT, Nodes
from tests.own_log import made_up_log
from tests.own_package import GATE, MODEL, blocks, write_package
from tests.plain_sasrec import PlainSASRec, train

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SMALL = """
data: {dataset: simulated, rehearsal_share: null, simulation: {users: 150, items: 60}}
train: {epochs: 1}
search: {trials: 2, concurrency: 2, bootstrap_replicates: 50, random_points: 0}
baselines: [none, all]
"""


def tune(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in `folder`, whose modules can be imported there and nowhere else."""
    command = [sys.executable, "-m", "search.tune", "--space", "mine.yaml", "--out", "out", *arguments]
    given = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "ETAREC_CACHE": str(folder / "cache"), **environment}
    given.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=280)


SERVE = """
from pathlib import Path
from etarec import serving
recommender = serving.load(Path("out"))
tokens = recommender.catalogue.tokens
recommender.observe([f"user {n % 9}" for n in range(300)], [tokens[n % 50] for n in range(300)])
assert recommender.counts["batches"] and recommender.counts["own"]
assert len(recommender.recommend(["user 3"], k=5)[0].items) == 5
"""
SERVE_BY_MLFLOW = """
import mlflow, pandas
client = mlflow.MlflowClient()
(model,) = client.search_logged_models([client.get_experiment_by_name("mine").experiment_id])
loaded = mlflow.pyfunc.load_model(model.model_uri)
tokens = loaded.unwrap_python_model().recommender.catalogue.tokens
found = loaded.predict(pandas.DataFrame({"history": [tokens[:2]]}), params={"k": 5})
assert len(found["items"][0]) == 5
"""


def served(folder: Path, code: str, **environment: str) -> None:
    """Runs code in `folder`; the package can be imported there only if it lies there."""
    given = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def experiment(folder: Path) -> None:
    """The page's model behind the page's gate, whose option is searched; scores of so short a training are close."""
    model, gate = (block.splitlines(keepends=True) for block in blocks("yaml"))
    close = "".join(gate[1:]).replace("low: 0.01, high: 10.0", "low: 1.0e-5, high: 0.01")
    (folder / "mine.yaml").write_text("".join(model[:2]) + close + SMALL)


def test_a_model_and_a_gate_outside_the_project_are_searched_and_guarded(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    experiment(tmp_path)
    done = tune(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    trials, front = (pd.read_csv(tmp_path / "out" / name) for name in ("trials.csv", "pareto.csv"))
    assert (trials.state == "FINISHED").all() and trials["gate_options.margin"].nunique() == 2
    assert (trials.filtered_by_own > 0).any() and front.test_hr_at_10.notna().all()
    provenance = json.loads((tmp_path / "out/provenance.json").read_text())
    assert provenance["checkpoint"]["class"] == MODEL and provenance["checkpoint"]["code"]
    assert set(provenance["own_code"]) == {f"mypackage/{name}.py" for name in ("__init__", "gates", "models")}
    report = (tmp_path / "out/report.md").read_text()
    assert "gate_options.margin" in report
    served(tmp_path, SERVE)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    served(elsewhere, SERVE_BY_MLFLOW, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    with (package / "gates.py").open("a") as file:
        file.write("# changed\n")
    refused = tune(tmp_path, "--resume", "--trials", "3")
    assert refused.returncode == 2 and "mypackage/gates.py" in refused.stderr, refused.stdout + refused.stderr


def test_weights_trained_elsewhere_are_searched_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up_log(["user_id", "item_id", "timestamp"]).to_csv("clicks.csv", index=False)
    small = SMALL.replace("dataset: simulated", "path: clicks.csv").replace("train: {epochs: 1}", "")
    space = "space: {top_k: {low: 2, high: 20}}\ncheckpoint: sasrec.safetensors\n"
    Path("mine.yaml").write_text(small + space)
    log = data.load(DataConfig(path="clicks.csv"))
    row_of = {token: row for row, token in enumerate(reversed(log.vocabulary.to_pylist()), start=1)}
    model = PlainSASRec(log.n_items, 50)
    train(model, log, row_of)
    torch.save(model.state_dict(), "sasrec.pt")
    names = {"row_of": row_of}
    _, conversion, adoption, _ = blocks("python")
    exec(conversion + adoption, names)
    done = tune(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sasrec.safetensors: epoch 0" in done.stdout and "epoch   1" not in done.stdout
    assert (pd.read_csv("out/trials.csv").state == "FINISHED").all()


def test_a_package_travels_to_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    """It lies in a folder that only the search's process imports from; what it imports itself is not sent.

    Ray lets workers on this machine import from the search's current folder, so the package must not lie there.
    """
    folder = Path(tempfile.mkdtemp(prefix="nodes", dir="/tmp"))  # short, since sockets lie below
    nodes = Nodes(folder, 1)
    try:
        (here := tmp_path / "here").mkdir()
        package, importing = write_package(here), {"PYTHONPATH": os.pathsep.join([str(ROOT), str(here)])}
        experiment(tmp_path)
        done = tune(tmp_path, "--address", nodes.address, **importing)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (pd.read_csv(tmp_path / "out/trials.csv").state == "FINISHED").all()
        (here / "only_here.py").write_text("")
        (package / "gates.py").write_text("import only_here\n" + (package / "gates.py").read_text())
        lacking = tune(tmp_path, "--address", nodes.address, "--dry-run", "--out", "other", **importing)
        assert lacking.returncode == 2, lacking.stdout + lacking.stderr
        assert f"error: --address {nodes.address}: node " in lacking.stderr
        assert f"{GATE}'s code is unknown: given {GATE}, but mypackage.gates cannot be imported" in lacking.stderr
        assert "No module named 'only_here'" in lacking.stderr
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
