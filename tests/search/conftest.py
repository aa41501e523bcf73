"""An MLflow store in a folder and the records of a search, for the tests of tracking."""

from pathlib import Path

import mlflow
import pytest
from made_up_store import Store

from search.records.records import Records
from search.track import live as tracker_module


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a store without runs. Creating its tables takes a second, so it is done once for all tests."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: bytes) -> Store:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    Path("mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(tracker_module, "RETRY_SECONDS", 0.05)
    return Store()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    (tmp_path / "out").mkdir()
    records = Records(tmp_path / "out")
    records.begin({})
    return records
