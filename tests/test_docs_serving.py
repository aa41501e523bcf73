"""The commands and the Python of docs/serving.md, and those of the README's section on serving, run as they stand."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.etarec.serving.made_up_run import made_up_run
from tests.pages import ROOT, commands, page

SECTION = re.search(r"^## Serve it\n.*?(?=^## )", page("README.md"), re.M | re.S)
PAGE = page("docs/serving.md")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with runs/demo, as a search leaves it."""
    run = made_up_run(tmp_path / "made")
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "demo")
    return tmp_path


@contextmanager
def started(command: str, folder: Path) -> Iterator[None]:
    """The service of a command, up to its stop by SIGTERM."""
    words = [sys.executable, *shlex.split(command, comments=True)[1:]]
    process = subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert any(line.startswith("serving") for line in process.stdout)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def answer(command: str) -> str:
    for _ in range(100):
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(0.2)  # the port opens a moment after the last line
    raise AssertionError((command, done.stderr))


def test_the_commands_answer(folder: Path) -> None:
    assert SECTION
    (serve,) = {
        line.partition("#")[0].strip() for text in (SECTION[0], PAGE) for line in commands(text, "python -m etarec")
    }
    asked = {line: None for text in (SECTION[0], PAGE) for line in commands(text, "curl ") if ":8080" in line}
    assert len(asked) == 4
    with started(serve, folder):
        answers = [answer(command) for command in asked]
    assert [len(one["items"]) for one in json.loads(answers[0])["recommendations"]] == [5, 5]
    assert json.loads(answers[1])["taken"] == 1 and json.loads(answers[2])["status"] == "ok"
    assert "etarec_recommendations_total 2\n" in answers[3] and "etarec_observations_total 1\n" in answers[3]


def test_the_python_of_the_page_runs(folder: Path) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.S)  # tests/search/track/test_model.py runs the second
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 0" in done.stdout.splitlines() and (folder / "state" / "snapshot.safetensors").exists()


def test_every_option_on_the_page_is_there() -> None:
    told = {*re.findall(r"--(?:[a-z]+-?)+", PAGE)} - {"--silent", "--json", "--model-uri", "--env-manager"}
    shown = subprocess.run(
        [sys.executable, "-m", "etarec.serve", "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert {*re.findall(r"--(?:[a-z]+-?)+", shown.stdout)} - {"--help"} >= told - {"--port"}
