"""The README's `python -m` commands and `mlflow ui` run, one after another, on a log like the one that it names."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.own_log import made_up_log
from tests.pages import ROOT, commands, page

README = page("README.md")
SMALL = ["--set", "train.epochs=1", "search.bootstrap_replicates=50", "search.concurrency=2"]
NEEDS_A_CLUSTER = "--address"  # the command joins a Ray cluster, and none is started beside other tests
RUNS_FOREVER = "etarec.serve"  # tests/test_docs_serving.py runs it

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


def readme_commands() -> list[list[str]]:
    lines = commands(README, "python -m ")
    return [
        shlex.split(line, comments=True) for line in lines if NEEDS_A_CLUSTER not in line and RUNS_FOREVER not in line
    ]


def shortened(command: list[str]) -> list[str]:
    """The same command with two trials and one epoch of training: the test is about its options."""
    words = [{"64": "2", "96": "3"}.get(word, word) for word in command]
    if "search.tune" in words and "--trials" not in words:
        words += ["--trials", "2"]
    small = SMALL if "search.tune" in words else SMALL[:2]
    return [
        sys.executable,
        *words[1:],
        *([] if {"search.report", "search.track", "etarec.describe"} & {*words} else small),
    ]


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    made_up_log(["visitor", "product", "time"], 250, 120).to_csv(tmp_path / "clicks.csv", index=False)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    assert len(readme_commands()) >= 6
    for command in readme_commands():
        done = subprocess.run(
            shortened(command), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert {"runs/demo/report.html", "runs/mine/report.html", "mine.safetensors"} <= {
        str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()
    }
    assert shows_the_searches(tmp_path, environment)


def shows_the_searches(folder: Path, environment: dict[str, str]) -> bool:
    """Whether `mlflow ui`, started in `folder`, serves the searches' experiment."""
    assert commands(README, "mlflow ui")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    with (folder / "ui.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=demo"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["experiment"]["name"] == "demo"
            time.sleep(0.5)
        return False
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
