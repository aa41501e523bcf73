"""A search needs little disk and memory and leaves nothing behind. docs/reliability.md has a longer run."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.bounds import MIB, measure
from tests.faults.stage import Search, family, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]
TRIALS = 60


@pytest.fixture
def temporary() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))  # a short path, because Ray's sockets lie in it
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_search_needs_little_disk_and_memory(tmp_path: Path, temporary: Path) -> None:
    bounds = measure(tmp_path, temporary, TRIALS)
    assert bounds.scratch > MIB, bounds  # Ray did use this folder
    assert bounds.kept + bounds.store < 20 * MIB, bounds  # mostly independent of the number of trials
    assert bounds.late - bounds.early < 100 * MIB, bounds
    assert bounds.processes == 0 and not list(temporary.iterdir()), bounds


def test_ctrl_c_leaves_no_process_and_no_file_behind(tmp_path: Path, temporary: Path) -> None:
    search = Search(tmp_path, TRIALS, 0.3, f"sqlite:///{tmp_path}/mlflow.db", None, temporary)
    wait_until("trials", lambda: (tmp_path / "processes").exists() or not search.running)
    assert list(temporary.iterdir())
    members = family(search.process)
    os.killpg(search.process.pid, signal.SIGINT)
    assert search.process.wait(timeout=120) == 130, search.output
    assert psutil.wait_procs(members, timeout=30)[1] == []
    assert not list(temporary.iterdir()) and "Traceback" not in search.output
