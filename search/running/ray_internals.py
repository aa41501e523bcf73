"""Parts of Ray, other than those in pacing.py, that Ray may change without notice: settings, and words of its messages.

All of them are those of Ray 2.60. tests/search/running/test_ray_internals.py fails with the name of a part that a later
Ray lacks.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services, utils
from ray._private.authentication.authentication_token_generator import generate_new_authentication_token

# Words of the message of a `RayActorError`.
IN_CREATION = "error raised in its creation task"  # the worker's constructor raised an exception
ITS_NODE = "its node has died"  # the worker ended with its node

MOST_STARTING = "TUNE_MAX_PENDING_TRIALS_PG"  # how many workers Tune starts at once

# The environment of the process that runs a search. A variable that the user has set keeps its value.
DRIVER = {
    "RAY_AIR_NEW_OUTPUT": "0",  # no status tables of Tune's
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers stay in the current folder
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # hides the GPUs from trials that reserve none
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files of Tune's
    "TUNE_RESULT_BUFFER_LENGTH": "0",  # each result reaches the callbacks at once
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's experiment files are never read
    "TUNE_WARN_THRESHOLD_S": "60",
}
# The environment of a cluster that a search starts: processes that `start_processes` starts wait a minute for work, and
# workers are no nicer than this process. Ray's own niceness of 15 would starve them beside any other load.
PROCESSES = {"RAY_idle_worker_killing_time_threshold_ms": "60000", "RAY_worker_niceness": "0"}


def files_in(folder: Path) -> dict[str, Any]:
    """The argument of `ray.init` that puts a new cluster's files into `folder`."""
    return {"_temp_dir": str(folder)}


def other_versions(error: Exception) -> str:
    """The cluster's versions if `ray.init` refused it for them, such as "Ray 2.59.0 and Python 3.12.1"; else empty."""
    found = re.search(r"ersion mismatch.*?Ray: (\S+)\s+Python: (\S+)", str(error), re.DOTALL)
    return f"Ray {found[1]} and Python {found[2]}" if found else ""


def wants_token_file() -> bool:
    """Whether a cluster that this process starts reads its token from the home folder, where Ray would make it."""
    elsewhere = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return not elsewhere and os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def new_token() -> str:
    """A token as Ray makes them for its clusters."""
    return generate_new_authentication_token()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Clusters started in the block listen on the loopback interface alone, as Ray has it on Windows and macOS.

    A value of Ray's variable that the user has set is kept.
    """
    variable, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    if variable in os.environ:
        yield
        return
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[variable]
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def without_its_messages() -> Iterator[None]:
    """Ray prints nothing in the block. It would print messages of its C++ code among the lines of a search."""
    before = ray._private.worker.print_to_stdstream
    ray._private.worker.print_to_stdstream = lambda *message, **options: None
    try:
        yield
    finally:
        ray._private.worker.print_to_stdstream = before


def shared_memory() -> tuple[int, int]:
    """Bytes free in /dev/shm, and bytes that Ray reserves for its objects. It keeps them there if there is room."""
    free: int = utils.get_shared_memory_bytes()  # type: ignore[no-untyped-call]
    return free, utils.resolve_object_store_memory(utils.estimate_available_memory())  # type: ignore[no-untyped-call]


def timed_out(error: Exception) -> bool:
    """Whether `ray.init` gave up waiting for the processes that it had started."""
    return re.search(r"timed out|Failed to start GCS|Failed to get node", str(error)) is not None


def address_of_auto() -> str:
    """The HOST:PORT that `auto` stands for. Raises ConnectionError if this machine belongs to no cluster."""
    return str(services.get_ray_address_from_environment("auto", None))


def folder_of_cluster() -> Path:
    """The folder of the joined cluster's files, as the head names it."""
    node: Any = ray._private.worker._global_node
    return Path(node.get_temp_dir_path())
