"""This Ray has the settings and says the words on which ray_internals.py leans."""

import inspect
import mmap
import os
from pathlib import Path

import psutil
import pytest
import ray
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import _get_default_token_path
from ray._private.node import Node
from ray._private.utils import check_version_info
from ray.exceptions import ActorDiedError, RayTaskError

from search.running import ray_internals
from search.running.address import TOKEN_FILE
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


def test_a_cluster_on_loopback_is_chosen_by_a_setting_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    monkeypatch.delenv(variable, raising=False)
    with ray_internals.on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1", f"{LACKS}the setting {variable}"
        assert os.environ[variable] == "0"
    assert variable not in os.environ and ray_constants.ENABLE_RAY_CLUSTER
    monkeypatch.setenv(variable, "1")
    with ray_internals.on_loopback():
        assert ray_constants.ENABLE_RAY_CLUSTER and os.environ[variable] == "1"


def test_the_words_of_a_time_out_are_ray_s() -> None:
    for text in ("The current node timed out during startup", "Failed to {'start' if self.head else 'connect to'} GCS"):
        assert text in (RAY / "_private/node.py").read_text(), f"{LACKS}the words {text!r}"
    assert ray_internals.timed_out(Exception("The current node timed out during startup."))
    assert not ray_internals.timed_out(ValueError("no such option"))


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"RAY_AUTH_MODE": "token"}, True),
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_TOKEN": "x"}, False),
        ({"RAY_AUTH_TOKEN_PATH": "x"}, False),
    ],
)
def test_a_token_is_made_only_where_ray_would_make_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ray_internals.wants_token_file() is wanted


def test_ray_reads_a_token_where_this_program_keeps_it() -> None:
    assert _get_default_token_path() == Path.home() / TOKEN_FILE and len(ray_internals.new_token()) >= 32
    assert "_global_node" in vars(ray._private.worker) and hasattr(Node, "get_temp_dir_path")


def test_ray_s_messages_are_printed_by_the_function_that_is_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    """They would go to standard output, among the lines of --json."""
    message = {"lines": ["a worker died"], "pid": "raylet", "is_err": False}
    ray._private.worker.print_to_stdstream(message, ignore_prefix=False)
    assert "a worker died" in capsys.readouterr().out, f"{LACKS}the function that prints messages"
    with ray_internals.without_its_messages():
        ray._private.worker.print_to_stdstream(message, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    assert "print_to_stdstream(" in inspect.getsource(ray._private.worker.listen_error_messages)


def test_shared_memory_is_compared_with_what_ray_reserves() -> None:
    free, wanted = ray_internals.shared_memory()
    there = os.statvfs("/dev/shm")
    assert 0 < wanted < psutil.virtual_memory().total and 0 <= free <= there.f_blocks * there.f_bsize
