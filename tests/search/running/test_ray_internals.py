"""This Ray has the settings and says the words on which ray_internals.py leans."""

import mmap
from pathlib import Path

import pytest
import ray
from ray._private.utils import check_version_info
from ray.exceptions import ActorDiedError, RayTaskError

from search.running import ray_internals
from search.running.ray_internals import DRIVER, IN_CREATION, ITS_NODE, MOST_STARTING, PROCESSES, other_versions

RAY = Path(ray.__file__).parent
RUNNING = Path(__file__).parents[3] / "search" / "running"
LACKS = f"Ray {ray.__version__} lacks what search/running/ray_internals.py uses: "
# Ray's processes are written in C++; the driver and the workers are Python.
BINARIES = {"core/src/ray/gcs/gcs_server": [ITS_NODE], "core/src/ray/raylet/raylet": [*PROCESSES]}


def in_python(word: str) -> bool:
    folders = ("_common", "_private", "tune", "air")
    return any(word in file.read_text() for folder in folders for file in (RAY / folder).rglob("*.py"))


@pytest.mark.parametrize("name", [MOST_STARTING, *DRIVER])
def test_a_setting_is_read_by_ray(name: str) -> None:
    assert in_python(name), f"{LACKS}the environment variable {name}"


@pytest.mark.parametrize(("binary", "words"), [(name, word) for name, words in BINARIES.items() for word in words])
def test_a_binary_holds_the_words(binary: str, words: str) -> None:
    with (RAY / binary).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content.find(words.removeprefix("RAY_").encode()) >= 0, f"{LACKS}{words!r} in {binary}"


def test_ray_init_takes_a_folder(tmp_path: Path) -> None:
    for name, value in ray_internals.files_in(tmp_path).items():
        assert value == str(tmp_path)
        assert f'kwargs.pop("{name}"' in (RAY / "_private/worker.py").read_text(), f"{LACKS}ray.init({name}=...)"


def test_an_error_in_a_constructor_is_told_in_these_words() -> None:
    error = ActorDiedError(RayTaskError("TrialWorker.__init__", "Traceback", ValueError("bad"), actor_id="1"))
    assert IN_CREATION in str(error), f"{LACKS}the words {IN_CREATION!r} of ActorDiedError"


def test_a_cluster_with_other_versions_is_recognised() -> None:
    with pytest.raises(RuntimeError) as refused:
        check_version_info({"ray_version": "1.2.3", "python_version": "3.4.5"}, "this node")
    assert other_versions(refused.value) == "Ray 1.2.3 and Python 3.4.5", f"{LACKS}the words of a version mismatch"
    assert other_versions(RuntimeError("no port is free")) == ""


@pytest.mark.parametrize("private", ["TUNE_", "_temp_dir", "idle_worker_killing", "creation task", "ersion mismatch"])
def test_no_other_file_leans_on_them(private: str) -> None:
    assert [file.name for file in RUNNING.glob("*.py") if private in file.read_text()] == ["ray_internals.py"]
