"""The plan of a dry run: its seconds, and that it joins a cluster once and tells no password."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TINY

from etarec.evaluate import Measurement
from search import dry_run, preflight
from search import subject as subject_module
from search.console import Console
from search.experiment import Experiment
from search.running import cluster
from search.spec import load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ETAREC_CACHE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    Path("space.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def experiment_of(*changes: str, address: str | None = None) -> Experiment:
    return Experiment(load(Path("space.yaml"), changes), Path("out").absolute(), address=address)


def test_it_joins_a_cluster_once(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str | None] = []

    @contextmanager
    def joined(address: str | None, **options: Any) -> Iterator[None]:
        connected.append(address)
        yield

    monkeypatch.setattr(cluster, "_ray", joined)
    monkeypatch.setattr(cluster, "_check_nodes", lambda address, classes: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    dry_run.dry_run(experiment_of(address="somewhere:1"))
    assert connected == ["somewhere:1"]


def test_it_tells_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(preflight, "check_store", lambda *given: "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:hun@ter/22@tracking/mlflow?token=hunter22")
    dry_run.dry_run(experiment_of())
    out = capsys.readouterr().out
    assert "in postgresql://...@tracking/mlflow?...\n" in out and "hun" not in out and "ter" + "/22" not in out


def test_it_foretells_test_from_what_was_really_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds come from served samples, not from looked-up passes, and from the stream on which trials run."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Console, "pilot", lambda self, *arguments: given.append(arguments))
    looked_up: list[bool] = []
    serve = subject_module.measure

    def watched(*arguments: Any) -> Measurement:
        looked_up.append(len(arguments) > 5)
        return serve(*arguments)

    monkeypatch.setattr(subject_module, "measure", watched)
    dry_run.dry_run(experiment_of("data.rehearsal_share=0.35"))
    ((_, _, pilot, served, epoch_seconds, data),) = given
    assert looked_up == [True, False] and pilot is not served and epoch_seconds > 0
    assert len(served.ranks) == len(pilot.ranks) == data.sample_counts()["valid"]
