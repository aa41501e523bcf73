"""A search and its dry run end before training where the search would fail after hours."""

import fcntl
from pathlib import Path

import pytest
import yaml

from etarec.config import UserError
from search import preflight
from search.experiment import Experiment
from search.records.journal import JOURNAL
from search.spec import load

SPACE = {"space": {"top_k": {"low": 2, "high": 20}}, "search": {"trials": 8}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ETAREC_CACHE", "MLFLOW_TRACKING_URI", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def experiment_of(out: str = "out", resume: bool = False) -> Experiment:
    return Experiment(load(Path("space.yaml")), Path(out).absolute(), resume=resume)


def test_nothing_is_left_behind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preflight.check(experiment_of())
    assert [path.name for path in folder.iterdir()] == ["space.yaml"] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ETAREC_CACHE", " ", "ETAREC_CACHE: given an empty text"),
        ("RAY_TMPDIR", "/proc/none", "RAY_TMPDIR, the folder for temporary files: /proc/none cannot be written to"),
        ("RAY_TMPDIR", "/tmp/" + "a" * 12, "RAY_TMPDIR=.*: the path has 17 bytes, expected at most 16"),
        ("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db", "MLFLOW_TRACKING_URI: /proc/none cannot be written"),
    ],
)
def test_each_place_is_tried(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{message}"):
        preflight.check(experiment_of())


def test_the_output_folder_is_tried_with_what_the_search_will_write(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: dict[str, tuple[int, ...]] = {}
    with monkeypatch.context() as patch:
        patch.setattr(preflight, "check_folder", lambda folder, flag, *sizes: tried.update({flag: sizes}))
        preflight.check(experiment_of())
    assert tried == {"--out": (2**24 + 8 * 2**13, 20)}
    with pytest.raises(UserError, match=r"^--out: /proc/none cannot be written to"):
        preflight.check(experiment_of("/proc/none"))


def test_a_search_that_still_runs_is_not_resumed(folder: Path) -> None:
    (folder / "out").mkdir()
    with (folder / "out" / JOURNAL).open("w") as journal:
        preflight.check(experiment_of(resume=True))
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="a search is still running here"):
            preflight.check(experiment_of(resume=True))


def test_a_store_that_does_not_answer_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    preflight.check(experiment_of())
    expected = "warning: MLflow cannot be reached (connection refused); the search goes on without it and keeps trying"
    assert expected in capsys.readouterr().out
