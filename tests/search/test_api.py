"""A search from Python: the same files as the command's, from a script without a guard and from a notebook."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import TINY

import search
from etarec.config import UserError
from search import experiment, prepare
from search.records.states import Ending

ROOT = Path(__file__).parents[2]
SEARCH = {"trials": 2, "concurrency": 2, "bootstrap_replicates": 50, "random_points": 0}
SCRIPT = """
import search

result = search.run(search.load("space.yaml", "search.seed=3"), "out")
assert (len(result.trials), result.spec.search.seed) == (2, 3)
assert result.front.test_hr_at_10.notna().all() and set(result.baselines.trial_id) >= {"none", "all"}
assert result.chosen["trial_id"] in set(result.front.trial_id) and result.report.stat().st_size > 10_000
again = search.run(search.load("space.yaml", "search.seed=3", "search.trials=3"), "out", resume=True)
assert len(again.trials) == 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("space.yaml").write_text(yaml.safe_dump({**TINY, "search": SEARCH}))
    return tmp_path


class FakeSubject:
    class data:  # noqa: N801  # an attribute of the real subject
        n_items = 10


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> list[Ending]:
    """The ending of the search, which measures nothing."""
    endings: list[Ending] = []

    def run(asked: experiment.Experiment, subject: object, n_items: int) -> Ending:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return endings[0]

    monkeypatch.setattr(prepare, "prepare", lambda asked: FakeSubject())
    monkeypatch.setattr(experiment, "run", run)
    return endings


def test_an_ending_without_a_result_is_an_exception(folder: Path, ending: list[Ending]) -> None:
    spec = search.load("space.yaml")
    ending.append(Ending.COMPLETE)
    assert search.run(spec).directory == folder / "runs/space"
    ending[:] = [Ending.INTERRUPTED]
    with pytest.raises(KeyboardInterrupt):
        search.run(spec)
    ending[:] = [Ending.ALL_FAILED]
    with pytest.raises(RuntimeError, match=r"every trial failed; .*trials.csv has the reasons"):
        search.run(spec)


def test_the_notebook_s_own_handler_of_sigterm_comes_back(folder: Path, ending: list[Ending]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ending.append(Ending.COMPLETE)
    search.run(search.load("space.yaml"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_mistakes_are_user_errors(folder: Path, ending: list[Ending]) -> None:
    with pytest.raises(UserError, match=r"search\.trials: given 0"):
        search.load("space.yaml", "search.trials=0")
    spec = search.load(Path("space.yaml"))
    with pytest.raises(UserError, match="nothing to accept without resume"):
        search.run(spec, accept_changes=True)
    with pytest.raises(UserError, match="out: holds no search to resume"):
        search.run(spec, "out", resume=True)
    with pytest.raises(UserError, match="no such folder"):
        search.Result(folder / "out").front  # noqa: B018  # reading raises
    with pytest.raises(AttributeError, match="module 'search' has no attribute 'walk'"):
        search.walk  # noqa: B018


@pytest.mark.slow
@pytest.mark.ray
def test_a_script_without_a_guard_searches_and_resumes(folder: Path) -> None:
    Path("script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_csv("out/trials.csv")) == 3


@pytest.mark.slow
@pytest.mark.ray
def test_the_tour_runs_in_a_notebook(folder: Path) -> None:
    run = "import nbclient, nbformat, sys; nbclient.execute(nbformat.read(sys.argv[1], 4), timeout=250)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    command = [sys.executable, "-c", run, str(ROOT / "examples/tour.ipynb")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path("tour/report.html").exists() and len(pd.read_csv("tour/trials.csv")) == 8
