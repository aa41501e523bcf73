"""Ctrl-C, SIGTERM and kill -9 of a real search process, and resuming it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import yaml
from earlier_search import written
from formula_search import document

from search.records.provenance import Provenance
from search.records.records import Records
from search.records.states import State
from search.running.learning import first_informed
from search.running.suggest import Suggestions
from search.spec import load, objectives_of
from tests.faults.stage import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]
HERE = Path(__file__).parent
TRIALS = 10


def start(folder: Path, *extra: str, **variables: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment |= variables
    command = [sys.executable, str(HERE / "formula_search.py"), str(folder), str(TRIALS), "0.5", *extra]
    with (folder / "output").open("a") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def wait_for_finished(search: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and search.poll() is None:
        if (folder / "out/trials.jsonl").exists() and len(Records(folder / "out").in_state(State.FINISHED)) >= count:
            return
        time.sleep(0.1)
    raise AssertionError((folder / "output").read_text())


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_complete(folder: Path) -> None:
    """Assert that files and MLflow hold every trial once, finished, and that the front was measured on test."""
    table = pd.read_csv(folder / "out/trials.csv")
    assert list(table.state) == ["FINISHED"] * TRIALS
    assert not table.duplicated(["top_k", "entropy_quantile", "cosine_threshold"]).any()
    store = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("formula").experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    baselines = pd.read_csv(folder / "out/baselines.csv")
    assert sorted(run.data.tags["trial_id"] for run in children) == sorted([*table.trial_id, *baselines.trial_id])
    assert len(runs) == TRIALS + len(baselines) + 1 and {run.info.status for run in runs} == {"FINISHED"}
    front = pd.read_csv(folder / "out/pareto.csv")
    assert front.test_hr_at_10[front.group.isna() | (front.group == front.trial_id)].notna().all()
    assert_undisturbed(folder)


def assert_undisturbed(folder: Path) -> None:
    """Assert that the trials are those of an uninterrupted search, and that anchors came once."""
    records = Records(folder / "out")
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    spec = load(folder / "space.yaml")
    suggestions = Suggestions(spec, 2, anchors, first=records.first)
    for number in range(TRIALS):
        assert suggestions.ask() == records.trials[number].parameters
        suggestions.tell(number, objectives_of(spec.search, records.trials[number].metrics))
    first = first_informed("auto", 2)
    assert first is not None and first < TRIALS - 2
    events = [json.loads(line) for line in (folder / "out/trials.jsonl").read_text().splitlines()]
    assert (
        sorted(event["name"] for event in events if event["event"] == "anchor") == sorted(anchors) and len(anchors) == 7
    )


def test_ctrl_c_ends_a_search_cleanly_and_resume_finishes_it(tmp_path: Path) -> None:
    search = start(tmp_path)
    wait_for_finished(search, tmp_path, 3)
    relatives = family(search)
    assert relatives
    search.send_signal(signal.SIGINT)
    assert search.wait(timeout=60) == 130, (tmp_path / "output").read_text()
    assert psutil.wait_procs(relatives, timeout=15)[1] == []
    records = Records(tmp_path / "out")
    finished = {trial.number: trial.metrics for trial in records.in_state(State.FINISHED)}
    assert 3 <= len(finished) < TRIALS and not records.in_state(State.RUNNING)
    assert "interrupted" in (tmp_path / "out/report.md").read_text()
    assert not any(line.startswith("test") for line in (tmp_path / "measured").read_text().splitlines())

    assert start(tmp_path, "resume").wait(timeout=120) == 0, (tmp_path / "output").read_text()
    assert_complete(tmp_path)
    again = Records(tmp_path / "out").trials
    assert {number: again[number].metrics for number in finished} == finished


def test_sigterm_ends_a_search_as_ctrl_c_does(tmp_path: Path) -> None:
    """A batch system sends SIGTERM before it kills. No trial is left RUNNING, neither in the files nor in MLflow."""
    search = start(tmp_path)
    wait_for_finished(search, tmp_path, 2)
    relatives = family(search)
    search.send_signal(signal.SIGTERM)
    assert search.wait(timeout=60) == 130, (tmp_path / "output").read_text()
    assert psutil.wait_procs(relatives, timeout=15)[1] == []
    assert not Records(tmp_path / "out").in_state(State.RUNNING)
    store = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("formula").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}


def test_ctrl_c_twice_leaves_no_folder_behind(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="i", dir="/tmp") as base:  # short, since sockets lie below
        search = start(tmp_path, RAY_TMPDIR=base)
        wait_for_finished(search, tmp_path, 2)
        relatives = family(search)
        for _ in range(2):
            search.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert search.wait(timeout=60) in (130, -signal.SIGINT), (tmp_path / "output").read_text()
        assert psutil.wait_procs(relatives, timeout=15)[1] == [] and not list(Path(base).iterdir())
    assert not Records(tmp_path / "out").in_state(State.RUNNING)


@pytest.mark.parametrize("process", ["raylet", "gcs_server"])
def test_a_search_that_loses_a_process_of_ray_names_the_way_on(tmp_path: Path, process: str) -> None:
    """Ray's C++ code ends the driver then, without an exception; by default a minute after the GCS is gone."""
    search = start(tmp_path, RAY_gcs_rpc_server_reconnect_timeout_s="5")
    wait_for_finished(search, tmp_path, 2)
    relatives = family(search)
    next(one for one in relatives if one.name() == process).kill()
    assert search.wait(timeout=60) not in (0, 130)
    psutil.wait_procs(relatives, timeout=15)
    assert (tmp_path / "output").read_text().endswith("--resume goes on\n")


def test_sigterm_ends_a_search_that_a_shell_started_in_the_background(tmp_path: Path) -> None:
    """Such a process ignores Ctrl-C, except while Ray Tune catches it, so the signal is sent during the test phase."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        search = start(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    measured = tmp_path / "measured"
    wait_until("test", lambda: (measured.exists() and "\ntest" in measured.read_text()) or search.poll() is not None)
    relatives = family(search)
    search.send_signal(signal.SIGTERM)
    assert search.wait(timeout=60) == 130, (tmp_path / "output").read_text()
    assert psutil.wait_procs(relatives, timeout=15)[1] == []


def test_one_ctrl_c_ends_a_search_whose_store_does_not_answer(tmp_path: Path) -> None:
    """Also after the last trial, when Ray Tune once kept catching Ctrl-C."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        search = start(tmp_path, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{listener.getsockname()[1]}")
        wait_until("the report", lambda: (tmp_path / "out/report.html").exists() or search.poll() is not None)
        time.sleep(3)
        os.killpg(search.pid, signal.SIGINT)
        begin = time.monotonic()
        assert search.wait(timeout=60) == 0, (tmp_path / "output").read_text()
        assert time.monotonic() - begin < 30 and "search.track" in (tmp_path / "output").read_text()


def kill_9(search: "subprocess.Popen[bytes]") -> None:
    relatives = family(search)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    for relative in relatives:
        with contextlib.suppress(psutil.NoSuchProcess):
            relative.kill()


def test_kill_9_among_the_anchors_costs_only_those_that_ran(tmp_path: Path) -> None:
    search, journal = start(tmp_path), tmp_path / "out/trials.jsonl"
    wait_until("anchors", lambda: journal.exists() and journal.read_text().count('"anchor"') >= 2)
    kill_9(search)
    kept = Records(tmp_path / "out").anchors
    assert 2 <= len(kept) < 7 and not Records(tmp_path / "out").trials
    before = (tmp_path / "measured").read_text()
    assert start(tmp_path, "resume").wait(timeout=120) == 0, (tmp_path / "output").read_text()
    assert_complete(tmp_path)
    since = (tmp_path / "measured").read_text().removeprefix(before).splitlines()
    gates = {"all": "valid open", "none": "valid eta none"}
    assert not [name for name in kept.keys() & gates.keys() if any(line.startswith(gates[name]) for line in since)]


def test_resume_after_kill_9_measures_no_trial_twice(tmp_path: Path) -> None:
    search = start(tmp_path)
    wait_for_finished(search, tmp_path, 3)
    kill_9(search)
    finished = Records(tmp_path / "out").in_state(State.FINISHED)
    before = (tmp_path / "measured").read_text()
    with (tmp_path / "out/trials.jsonl").open("ab") as journal:
        journal.write(b'{"event": "ended", "number": 99, "sta')  # a line torn by a power cut

    assert start(tmp_path, "resume").wait(timeout=120) == 0, (tmp_path / "output").read_text()
    assert_complete(tmp_path)
    since = (tmp_path / "measured").read_text().removeprefix(before)
    for trial in finished:
        top_k, quantile = trial.parameters["top_k"], trial.parameters["entropy_quantile"]
        if (top_k, quantile) != (50, 0.5):  # the published gate is a baseline too
            assert f"valid eta weights {top_k} {quantile!r}\n" not in since


@pytest.mark.timeout(900)  # three searches
def test_a_search_by_three_objectives_goes_on_alike_after_kill_9(tmp_path: Path) -> None:
    """Its suggestions are those of a search that nothing interrupted; the cost of a finished trial stays."""
    objectives = "search={objectives: [hr_at_10, filter_rate, cost]}"
    search = start(tmp_path, objectives)
    wait_for_finished(search, tmp_path, 3)
    kill_9(search)
    finished = {trial.number: trial.metrics for trial in Records(tmp_path / "out").in_state(State.FINISHED)}
    assert 3 <= len(finished) < TRIALS
    assert start(tmp_path, objectives, "resume").wait(timeout=240) == 0, (tmp_path / "output").read_text()
    assert_complete(tmp_path)
    resumed = Records(tmp_path / "out").trials
    assert {number: resumed[number].metrics for number in finished} == finished
    costs = [resumed[number].metrics["cost"] for number in range(TRIALS)]
    assert list(pd.read_csv(tmp_path / "out/trials.csv").cost) == pytest.approx(costs) and len(set(costs)) == TRIALS

    (tmp_path / "whole").mkdir()
    assert start(tmp_path / "whole", objectives).wait(timeout=240) == 0, (tmp_path / "whole/output").read_text()
    whole = Records(tmp_path / "whole/out").trials
    assert [whole[number].parameters for number in range(TRIALS)] == [resumed[n].parameters for n in range(TRIALS)]


@pytest.mark.timeout(900)
def test_a_front_that_is_tried_first_is_tried_once_after_kill_9(tmp_path: Path) -> None:
    space, earlier = tmp_path / "space.yaml", tmp_path / "earlier"
    space.write_text(yaml.safe_dump(document(TRIALS)))
    trials = [{"top_k": 60, "entropy_quantile": quantile, "cosine_threshold": 1.0} for quantile in (0.2, 0.6, 0.9)]
    written(earlier, load(space), trials, Provenance())
    search = start(tmp_path, f"first={earlier}")
    wait_for_finished(search, tmp_path, 2)
    kill_9(search)
    shutil.rmtree(earlier)  # the journal holds its front
    assert start(tmp_path, "resume").wait(timeout=240) == 0, (tmp_path / "output").read_text()
    assert_complete(tmp_path)
    records = Records(tmp_path / "out")
    tried = [records.trials[number].parameters for number in range(TRIALS)]
    assert 1 <= len(records.first) <= len(trials) and all(tried.count(point) == 1 for point in records.first)


def test_a_search_that_starts_from_another_goes_on_alike_after_kill_9(tmp_path: Path) -> None:
    space, earlier = tmp_path / "space.yaml", tmp_path / "earlier"
    space.write_text(yaml.safe_dump(document(TRIALS)))
    quantiles = (0.2, 0.4, 0.6, 0.8)
    trials = [{"top_k": 60, "entropy_quantile": quantile, "cosine_threshold": 1.0} for quantile in quantiles]
    written(earlier, load(space), trials, Provenance())
    search = start(tmp_path, f"warm={earlier}")
    wait_for_finished(search, tmp_path, len(trials) + 3)
    kill_9(search)
    shutil.rmtree(earlier)  # the journal holds all that was taken
    assert start(tmp_path, "resume").wait(timeout=120) == 0, (tmp_path / "output").read_text()

    records, table = Records(tmp_path / "out"), pd.read_csv(tmp_path / "out/trials.csv")
    assert list(table.state) == ["FINISHED"] * (len(trials) + TRIALS) and table.source.notna().sum() == len(trials)
    taken = [(trial.parameters, objectives_of(load(space).search, trial.metrics)) for trial in records.taken]
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    suggestions = Suggestions(load(space), 2, anchors, taken)
    for number in range(len(trials), len(table)):
        assert suggestions.ask() == records.trials[number].parameters
        suggestions.tell(number, objectives_of(load(space).search, records.trials[number].metrics))
    measured = (tmp_path / "measured").read_text()
    front = pd.read_csv(tmp_path / "out/pareto.csv")
    assert "trial-0001" in set(front.trial_id) and "test eta weights 60 0.4" in measured
    assert not any(f"valid eta weights 60 {quantile}\n" in measured for quantile in quantiles)
    assert f"| started from | 4 trials of {earlier} |" in (tmp_path / "out/report.md").read_text()
    baselines = pd.read_csv(tmp_path / "out/baselines.csv")
    store = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = store.search_runs([store.get_experiment_by_name("formula").experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["started_from"] == f"4 trials of {earlier}"
    assert sum("source" in run.data.tags for run in runs) == 4 and len(runs) == 1 + len(table) + len(baselines)
