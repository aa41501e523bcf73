"""A search on a cluster of several raylets whose nodes are killed, and clusters that a search refuses to join."""

import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import mlflow
import pandas as pd
import psutil
import pytest
import ray
import yaml
from formula import Formula
from ray._private.utils import check_version_info
from ray.exceptions import RayTaskError
from tiny import TINY

from etarec.config import AdaptConfig, UserError
from search.baselines import ANCHOR_RATES
from search.records.records import Records
from search.records.trial import Trial
from search.running import cluster, ray_internals, runner
from search.running.learning import first_informed
from search.running.plan import Plan
from search.running.scratch import RAY, scratch
from search.spec import SearchConfig
from search.subject import Job
from tests.faults import program, verdict
from tests.faults.stage import ROOT, Nodes, Search, family, kill_all, start, wait_until

TRIALS = 8


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))  # short, since sockets lie below
    started = Nodes(folder, 2)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def ended(search: Search) -> dict[int, Trial]:
    return verdict.ended_trials(search.directory) if (search.directory / "trials.jsonl").exists() else {}


def pids(nodes: Nodes) -> list[set[str]]:
    return [{str(member.pid) for member in family(node)} for node in nodes.workers]


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_survives_the_loss_of_nodes(tmp_path: Path, nodes: Nodes) -> None:
    """The first is killed among the trials, the second during the measurements on test."""
    search = Search(tmp_path, TRIALS, 1.5, f"sqlite:///{tmp_path}/mlflow.db", nodes.address, nodes.folder)
    members: list[psutil.Process] = []
    try:
        before = len(ANCHOR_RATES) + 2  # the measurements that come before the trials
        wait_until("trials", lambda: len(lines(tmp_path / "processes")) > before + 4 or not search.running)
        members = family(search.process)
        measuring = {line.split()[0] for line in lines(tmp_path / "processes")[before:]}
        assert all(measuring & of_node for of_node in pids(nodes)), search.output  # trials are spread
        nodes.kill(Random(0))
        wait_until("test", lambda: "test" in "".join(lines(tmp_path / "measured")) or not search.running)
        nodes.kill(Random(0))
        assert search.process.wait(timeout=180) == 0, search.output
    finally:
        kill_all([*members, *family(search.process)])
        search.process.wait()
    assert "is tried again" in search.output and "could not be measured" not in search.output
    assert sum(trial.retries for trial in Records(search.directory).trials.values()) == 1
    store = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = verdict.after_search(search.directory, program.spec_of(tmp_path, TRIALS), store, program.CONCURRENCY)
    assert not found, found
    front = pd.read_csv(search.directory / "pareto.csv")
    assert front.test_hr_at_10[front.group.isna() | (front.group == front.trial_id)].notna().all()


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_by_three_objectives_goes_on_alike_on_a_cluster(tmp_path: Path, nodes: Nodes) -> None:
    """Its driver is killed and resumed: it suggests what a search suggests that nothing interrupted, and each trial's
    cost, measured on its node, is the same in journal, table and MLflow."""
    objectives, trials = ("hr_at_10", "filter_rate", "cost"), TRIALS + 2
    search = Search(tmp_path, trials, 0.5, f"sqlite:///{tmp_path}/mlflow.db", nodes.address, nodes.folder, objectives)
    try:
        wait_until("trials", lambda: len(ended(search)) >= 3 or not search.running)
        measuring = {line.split()[0] for line in lines(tmp_path / "processes")}
        assert all(measuring & of_node for of_node in pids(nodes)), search.output  # both nodes measure
        kill_all(family(search.process))
        search.process.wait()
        before = ended(search)
        assert 3 <= len(before) < trials
        search.start()
        assert search.process.wait(timeout=180) == 0, search.output
    finally:
        kill_all(family(search.process))
        search.process.wait()
    spec, store = program.spec_of(tmp_path, trials, objectives), mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = verdict.after_search(search.directory, spec, store, program.CONCURRENCY)
    found.add(verdict.after_kill(search.directory, before))
    assert not found, found
    first = first_informed(spec.search.sampler, program.CONCURRENCY)
    assert first is not None and first < trials - 2  # the later suggestions rest on results
    table, front = (pd.read_csv(search.directory / f"{name}.csv") for name in ("trials", "pareto"))
    assert table.cost.nunique() == trials and front.test_cost.notna().all()


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_with_other_code_is_named(tmp_path: Path, nodes: Nodes) -> None:
    other = tmp_path / "other"
    for package in ("etarec", "search"):
        shutil.copytree(ROOT / package, other / package)
    with (other / "etarec/gate.py").open("a") as file:
        file.write("# a later version\n")
    nodes.add(PYTHONPATH=str(other))
    nodes.wait_until_registered()
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "search.tune", "--space", str(file), "--dry-run", "--address", nodes.address]
    assert start(command, tmp_path, "output").wait(timeout=180) == 2
    (message,) = [line for line in lines(tmp_path / "output") if line.startswith("error")]
    assert message.startswith(f"error: --address {nodes.address}: node ") and message.count("etarec's code") == 1


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"torch": "2.6.0"}, "torch 2.6.0, here 2.13.0"),
        ({"Python": "3.12", "ray": "is missing"}, "Python 3.12, here 3.11, ray is missing, here 2.60.0"),
        ({}, ""),
    ],
)
def test_differences_of_a_node_are_named(monkeypatch: pytest.MonkeyPatch, there: dict[str, str], expected: str) -> None:
    here = {"Python": "3.11", "ray": "2.60.0", "torch": "2.13.0"}
    monkeypatch.setattr("ray.get", lambda reference, timeout: here | there)
    assert cluster._problem("node", None, here) == expected


def test_a_refusal_names_the_token_that_a_cluster_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at here:6379")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr(cluster, "check_address", lambda address: None)
    expected = (
        r"--address here:6379: no Ray cluster answers there \(Failed .*\), expected auto or .*RAY_AUTH_MODE=token"
    )
    with pytest.raises(UserError, match=expected), cluster.cluster(SearchConfig(), "here:6379"):
        pass


def test_a_cluster_of_another_version_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        check_version_info({"ray_version": "1.2.3", "python_version": "3.4.5"}, "this node")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr(cluster, "check_address", lambda address: None)
    here = f"Ray {ray.__version__} and Python {platform.python_version()}"
    expected = f"--address here:6379: the cluster runs Ray 1.2.3 and Python 3.4.5, expected {here}, which this search"
    with pytest.raises(UserError, match=expected) as refused, cluster.cluster(SearchConfig(), "here:6379"):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", [None, "here:6379"])
def test_an_error_that_is_not_the_cluster_s_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    error = RuntimeError("a mistake inside Ray") if address else ConnectionError("the local cluster does not start")

    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setattr(cluster, "check_address", lambda address: None)
    with pytest.raises(type(error)) as raised, cluster._ray(address):
        pass
    assert raised.value is error


TIMED_OUT = "The current node timed out during startup. This could happen\nbecause"


@pytest.mark.parametrize("failures", [1, 2])
def test_a_ray_that_times_out_is_started_once_more(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    results: list[Exception | None] = [*[Exception(TIMED_OUT)] * failures, None]
    warned: list[str] = []
    half_started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> None:
        if (result := results.pop(0)) is not None:
            half_started.append(subprocess.Popen(["sleep", "60"]))
            raise result

    monkeypatch.setattr("ray.init", start)
    if failures == 2:
        with pytest.raises(
            UserError, match=r"^Ray does not start on this machine \(The current node timed out"
        ) as said:
            cluster._ray(None, warned.append).__enter__()
        assert "\n" not in str(said.value) and results == [None]
    else:
        with cluster._ray(None, warned.append):
            pass
    assert [process.wait(timeout=10) for process in half_started] == [-signal.SIGKILL] * failures
    (warning,) = warned
    assert warning.startswith("Ray does not start (The current node timed out") and warning.endswith("tried again")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (
            f"/tmp/.etarec-{'0a' * 7}/ray",
            "the cluster there belongs to another search, which ends it; expected a cluster",
        ),
        ("/tmp/ray", ""),
    ],
)
def test_the_cluster_of_another_search_is_not_joined(
    monkeypatch: pytest.MonkeyPatch, folder: str, message: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda *args, **options: None)
    monkeypatch.setattr(ray_internals, "address_of_auto", lambda: "auto")
    monkeypatch.setattr(ray_internals, "folder_of_cluster", lambda: Path(folder))
    if not message:
        with cluster._ray("auto"):
            return
    with pytest.raises(UserError, match=f"^--address auto: {message}"), cluster._ray("auto"):
        pass


def test_a_dead_cluster_behind_auto_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes the address in the file that its last `ray start` left."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda *args, **options: pytest.fail("Ray would wait for minutes"))
    monkeypatch.setattr(ray_internals, "address_of_auto", lambda: "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^--address 127.0.0.1:1: no Ray cluster answers"), cluster._ray("auto"):
        pass


@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_of_this_machine_is_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens on loopback, its token is private, its workers are not nice, and a hangup does not end it."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as base:  # short, since sockets lie below
        (tmp_path / "far/away").mkdir(parents=True)
        Path(base, "r").symlink_to(tmp_path / "far/away")
        monkeypatch.setenv("RAY_TMPDIR", f"{base}/r")
        with cluster.cluster(SearchConfig(concurrency=1), None):
            niceness = ray.get(ray.remote(lambda: os.nice(0)).remote())
            family = psutil.Process().children(recursive=True)
            for process in family:
                process.send_signal(signal.SIGHUP)
            hosts = {
                connection.laddr.ip
                for process in family
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
            assert list((tmp_path / "far/away").iterdir())
    assert niceness == os.nice(0)
    assert hosts and hosts <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert stat.S_IMODE((Path.home() / ".ray/auth_token").stat().st_mode) == 0o600


def test_small_shared_memory_is_one_warning_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for free, wanted in ((64 * 2**20, 3000 * 2**20), (2**33, 2**33)):
        monkeypatch.setattr(ray_internals, "shared_memory", lambda sizes=(free, wanted): sizes)
        cluster._tell_of_shared_memory(Path("/tmp"), said.append)
    (warning,) = said
    assert "has 64 MiB free, less than the 3,000 MiB" in warning and "a file in /tmp" in warning
    assert warning.endswith("Docker's --shm-size=3g gives more")


def test_a_node_that_runs_no_task_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reference: object, timeout: float) -> None:
        raise RayTaskError("_installed", "Traceback\nValueError: no such module", ValueError("no such module"))

    monkeypatch.setattr("ray.get", fail)
    monkeypatch.setattr(cluster, "_alive", lambda: {"node": {}})
    problem = cluster._problem("node", None, {})
    assert problem == "its versions are unknown, expected a node that can run a task (ValueError: no such module)"
    assert cluster._problem("a node that left", None, {}) == ""


@pytest.mark.slow
@pytest.mark.ray
def test_a_process_with_a_share_of_a_gpu_measures_one_configuration_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default Ray ends it after each one, and imports and CUDA's start cost more than most measurements."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    jobs = [Job(AdaptConfig(entropy_quantile=quantile), 0) for quantile in (0.2, 0.4, 0.6, 0.8)]
    subject, warnings = Formula(processes=tmp_path / "processes"), list[str]()
    believed = {"include_dashboard": False, "num_cpus": 1, "num_gpus": 1}
    with scratch(warnings.append) as folder, cluster._ray(None, **believed, **ray_internals.files_in(folder / RAY)):
        assert None not in runner.measure_all(subject, jobs, Plan(1, 1, 1, 0.5), warnings.append, on_test=True)
    assert len(lines(tmp_path / "processes")) == 4 and not warnings
    assert len({line.split()[0] for line in lines(tmp_path / "processes")}) == 1
