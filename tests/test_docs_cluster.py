"""The README's commands for a cluster: two raylets on this machine, with a token, and a search that joins them."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from search import tune
from tests.faults.stage import free_port
from tests.own_log import write_mine
from tests.pages import ROOT, commands, page

SECTION = re.search(r"^## A cluster\n.*?(?=^## )", page("README.md"), re.M | re.S)
SMALL = "--trials 2 --set search.concurrency=1 search.bootstrap_replicates=50 search.random_points=0"


def section() -> list[str]:
    assert SECTION
    return commands(SECTION[0])


def adapted(command: str, port: int) -> str:
    """The command for two nodes on this machine, beside other clusters, of which the second one alone has a CPU."""
    memory = "--object-store-memory 100000000"
    if command == "ray start --head":
        return f"{command} {memory} --num-cpus 0 --port {port} --include-dashboard false"
    if command.startswith("ray start"):
        return f"{command.replace('HEAD:6379', f'127.0.0.1:{port}')} {memory} --num-cpus 1"
    return f"{command} {SMALL}" if "search.tune" in command else command


@pytest.fixture
def folder() -> Iterator[Path]:
    """The home folder of a user without any other cluster; Ray's processes in it end with the test."""
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as name:  # short, since sockets lie below
        try:
            yield Path(name)
        finally:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get("RAY_TMPDIR") == name:
                        process.kill()
                        process.wait(10)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_commands_make_a_cluster_and_search_on_it(folder: Path) -> None:
    write_mine(folder)
    block = [command for command in section() if not command.startswith(("kubectl", "ray job"))]
    assert len(block) == 5
    port = free_port()
    script = "\n".join(["set -e", *(adapted(command, port) for command in block)])
    environment = {
        "HOME": str(folder), "RAY_TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }  # fmt: skip
    with (folder / "out").open("w") as out:  # no pipe, which the nodes would keep open
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdout=out, stderr=out, timeout=500)
    assert done.returncode == 0, (folder / "out").read_text()
    assert (pd.read_csv(folder / "runs/mine/trials.csv").state == "FINISHED").all()
    assert (folder / "runs/mine/report.html").exists() and (folder / ".ray/auth_token").exists()


def test_a_submitted_job_is_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, submit = (command for command in section() if command.startswith(("kubectl", "ray job")))
    port = re.fullmatch(r"kubectl port-forward service/NAME-head-svc (\d+)", forward)
    assert port and f"--address http://127.0.0.1:{port[1]} " in submit
    words = shlex.split(submit.partition(" -- ")[2])
    assert words[:3] == ["python", "-m", "search.tune"]
    monkeypatch.setattr(sys, "argv", words[2:])
    given = tune.parse()
    assert (given.address, str(given.space), str(given.out)) == ("auto", "mine.yaml", "/volume/mine")
