"""A small search over the real model: concurrency changes no number, and the checkpoint is not modified."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from etarec.disk import file_sha256
from search import experiment, prepare
from search.experiment import Experiment
from search.records.states import Ending
from search.spec import load

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SECONDS = ["seconds", "forward_seconds", "gate_seconds", "adapt_seconds", "mlflow_run_id"]


def search(folder: Path, concurrency: int) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    document = {
        "data": {"dataset": "simulated", "simulation": {"users": 250, "items": 120}},
        "train": {"epochs": 1},
        "adapt": {"batch_size": 64, "new_transitions_only": False},
        "space": {"top_k": {"low": 2, "high": 60, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}},
        "search": {"trials": 4, "concurrency": concurrency, "bootstrap_replicates": 50},
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(document))
    ran = Experiment(load(file), folder / f"out-{concurrency}")
    subject = prepare.prepare(ran)
    checkpoint = Path(ran.provenance.checkpoint["path"])
    before = file_sha256(checkpoint)
    assert experiment.run(ran, subject, subject.data.n_items - 1) is Ending.COMPLETE
    assert file_sha256(checkpoint) == before == ran.provenance.checkpoint["sha256"]
    tables = (pd.read_csv(ran.directory / name) for name in ("trials.csv", "pareto.csv"))
    return (*(table.drop(columns=[c for c in table if c.endswith(tuple(SECONDS))]) for table in tables), before)


def test_concurrency_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path / "cache"))
    alone = search(tmp_path, 1)
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache").glob("shared-*/*")}
    assert kept  # the passes that all trials share
    beside = search(tmp_path, 2)
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").glob("shared-*/*")} == kept  # and reused
    # Four trials are too few for the sampler to use results, so both searches measure the same configurations.
    pd.testing.assert_frame_equal(alone[0], beside[0], check_exact=True)
    pd.testing.assert_frame_equal(alone[1], beside[1], check_exact=True)
    assert alone[2] == beside[2]
