"""A measurement that was kept is found under all that it depends on, and under nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, DataConfig, ModelConfig, Reason, SimulationConfig, TrainConfig, UserError
from etarec.data import load
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS
from search.subject import Job, Recommender
from search.table import measured

MEASUREMENT = Measurement(
    np.array([3, 1], np.int32), np.array([0, 40], np.int32), np.array([Reason.ADMITTED, Reason.LOSS], np.int8),
    dict.fromkeys(SECONDS, 0.25),
)  # fmt: skip


@pytest.fixture(scope="module")
def subject() -> Recommender:
    data = load(DataConfig(dataset="simulated", simulation=SimulationConfig(users=60, items=30)))
    trained = Checkpoint(ModelConfig(), TrainConfig(), {}, data.vocabulary, data.sha256, 1, {}, sha256="abc")
    return Recommender(data, trained, "position", 0)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    assert measured.find(tmp_path, "test-1") is None
    measured.keep(tmp_path / "new", "test-1", MEASUREMENT, {"row": "a"})
    back = measured.find(tmp_path / "new", "test-1")
    assert back is not None and back.metrics() == MEASUREMENT.metrics()
    for name in ("users", "ranks", "reasons"):
        there, given = getattr(back, name), getattr(MEASUREMENT, name)
        assert there.dtype == given.dtype and np.array_equal(there, given)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["test-1.json", "test-1.npz"]


def test_without_its_json_a_measurement_was_never_finished(tmp_path: Path) -> None:
    measured.keep(tmp_path, "test-1", MEASUREMENT, {})
    (tmp_path / "test-1.json").unlink()
    assert measured.find(tmp_path, "test-1") is None


@pytest.mark.parametrize("spoilt", ["test-1.npz", "test-1.json"])
@pytest.mark.parametrize("left", [0, 40, -40])
def test_a_damaged_file_is_a_message(tmp_path: Path, spoilt: str, left: int) -> None:
    measured.keep(tmp_path, "test-1", MEASUREMENT, {})
    (tmp_path / spoilt).write_bytes((tmp_path / spoilt).read_bytes()[:left])
    with pytest.raises(UserError, match=r"test-1\.json: damaged .*delete it"):
        measured.find(tmp_path, "test-1")


def test_the_name_is_of_all_that_a_measurement_depends_on(subject: Recommender) -> None:
    job, trained = Job(AdaptConfig(), 5), subject.checkpoint
    names = {
        measured.name_of(subject, job, "test"),
        measured.name_of(subject, job, "valid"),
        measured.name_of(subject, replace(job, seed=6), "test"),
        measured.name_of(subject, replace(job, config=AdaptConfig(top_k=9)), "test"),
        measured.name_of(replace(subject, checkpoint=replace(trained, sha256="abd")), job, "test"),
        measured.name_of(replace(subject, data=replace(subject.data, sha256="x")), job, "test"),
        measured.name_of(replace(subject, order="user"), job, "test"),
        measured.name_of(replace(subject, order="time"), job, "test"),
        measured.name_of(replace(subject, order="shuffled"), job, "test"),
        measured.name_of(replace(subject, order="shuffled", order_seed=1), job, "test"),
    }
    assert len(names) == 10


def test_a_name_outlives_the_fields_that_were_added_after_it(subject: Recommender, monkeypatch) -> None:
    job = Job(AdaptConfig(top_k=9), 5)
    name = measured.name_of(subject, job, "test")
    monkeypatch.setitem(vars(measured._DEFAULTS), "new", "as before")
    monkeypatch.setitem(vars(job.config), "new", "as before")
    assert measured.name_of(subject, job, "test") == name
    monkeypatch.setitem(vars(job.config), "new", "otherwise")
    assert measured.name_of(subject, job, "test") != name


def test_the_name_is_of_nothing_else(subject: Recommender) -> None:
    job = Job(AdaptConfig(), 5)
    name = measured.name_of(subject, job, "test")
    assert measured.name_of(replace(subject, cache=Path("x"), order_seed=3), job, "test") == name
    assert measured.name_of(replace(subject, data=replace(subject.data, timestamps=None)), job, "test") == name
