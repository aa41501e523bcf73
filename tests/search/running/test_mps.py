"""CUDA's Multi-Process Service: a program in its place, and with `-m gpu` the real one, whose processes are killed."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from search.running import cluster, mps, scratch
from search.running.plan import GIB, IN_TURNS_PER_GPU, SIDE_BY_SIDE_PER_GPU, Machine
from search.spec import SearchConfig

# The folder `up` among its pipes means that the service runs, the file `served` that it has served a process.
CONTROL = """#!/bin/sh
pipes=$CUDA_MPS_PIPE_DIRECTORY
if [ "$1" = -d ]; then
    echo start >> "$HEARD"
    [ -z "$REFUSED" ] || { echo "$REFUSED" >&2; exit 1; }
    mkdir "$pipes/up"
    exit
fi
[ -d "$pipes/up" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
read -r question
sleep "${SLOW-0}"
echo "$question" >> "$HEARD"
case $question in
    quit*) rmdir "$pipes/up";;
    get_server_list) [ ! -f "$pipes/served" ] || echo 4711;;
esac
"""
SERVED = 'import os; open(os.environ["CUDA_MPS_PIPE_DIRECTORY"] + "/served", "w").close()'


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a program that stands in for the service."""
    program = tmp_path / mps.CONTROL
    program.write_text(CONTROL)
    program.chmod(0o755)
    (tmp_path / "default").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "default"))
    monkeypatch.delenv(mps.LOGS, raising=False)
    monkeypatch.setenv("HEARD", str(tmp_path / "heard"))
    monkeypatch.setattr(mps, "_TRY_OUT", SERVED)
    return tmp_path / "heard"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "search").mkdir()
    return tmp_path / "search"


def test_the_service_runs_for_the_time_of_the_block(folder: Path, heard: Path) -> None:
    before, files = dict(os.environ), folder / mps.FOLDER
    with mps.service(folder) as fault:
        assert not fault and (files / "up").is_dir()
        assert (os.environ[mps.PIPES], os.environ[mps.LOGS]) == (str(files), str(files))
    assert not (files / "up").exists() and dict(os.environ) == before
    assert heard.read_text().splitlines() == ["start", "get_server_list", "quit -t 5"]


@pytest.mark.parametrize(
    ("refused", "try_out", "expected"),
    [
        ("no permission", SERVED, "no permission"),
        ("", "raise SystemExit('CUDA error 805')", "CUDA error 805"),
        ("", "pass", "the service accepts no process"),
    ],
)
def test_without_a_service_nothing_changes_but_the_reason_is_told(
    folder: Path, heard: Path, monkeypatch: pytest.MonkeyPatch, refused: str, try_out: str, expected: str
) -> None:
    monkeypatch.setenv("REFUSED", refused)
    monkeypatch.setattr(mps, "_TRY_OUT", try_out)
    before = dict(os.environ)
    with mps.service(folder) as fault:
        assert fault == expected and dict(os.environ) == before
    assert not (folder / mps.FOLDER / "up").exists()


@pytest.mark.parametrize("slow", ["try_out", "quit"])
def test_a_service_that_hangs_is_not_waited_for(
    folder: Path, heard: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr(mps, "PATIENCE", 1.0)
    if slow == "try_out":
        monkeypatch.setattr(mps, "_TRY_OUT", "import time; time.sleep(60)")
    with mps.service(folder) as fault:
        assert fault == ("no answer in 1 s" if slow == "try_out" else "")
        monkeypatch.setenv("SLOW", "5" if slow == "quit" else "0")
    assert mps.PIPES not in os.environ or os.environ[mps.PIPES].endswith("default")


def test_what_ends_the_block_ends_the_service(folder: Path, heard: Path) -> None:
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt), mps.service(folder):
        raise KeyboardInterrupt
    assert dict(os.environ) == before and heard.read_text().endswith("quit -t 5\n")


@pytest.mark.parametrize(
    ("count", "capability", "chosen", "expected"),
    [
        (2, (7, 0), None, True),
        (2, (9, 0), "0,1", True),
        (1, (9, 0), "3", False),
        (2, (9, 0), "1,0", False),
        (2, (6, 1), None, False),
        (0, (9, 0), None, False),
    ],
)
def test_where_the_service_is_offered(
    heard: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    capability: tuple[int, int],
    chosen: str | None,
    expected: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert mps.offered() == expected
    monkeypatch.setenv("PATH", "")
    assert not mps.offered()


def test_a_service_that_runs_already_is_left_alone(folder: Path, heard: Path) -> None:
    (Path(os.environ[mps.PIPES]) / "up").mkdir()
    before = dict(os.environ)
    with mps.service(folder) as fault:
        assert not fault and dict(os.environ) == before
    assert heard.read_text().splitlines() == ["get_server_list"] and not (folder / mps.FOLDER).exists()


def test_what_a_killed_search_left_running_ends_with_its_folder(
    tmp_path: Path, heard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "_base", lambda: tmp_path)
    left = tmp_path / f"{scratch.PREFIX}{'0' * scratch.DIGITS}"
    (left / mps.FOLDER / "up").mkdir(parents=True)
    (left / scratch.MARKER).write_bytes(scratch._mark(left.name))
    with scratch.scratch(lambda text: None):
        assert not left.exists() and heard.read_text() == "quit -t 5\n"


@pytest.mark.parametrize("refused", ["", "no permission"])
def test_a_cluster_has_the_service_or_says_why_not(heard: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    machine = Machine(cores=16, gpus=1, memory=64 * GIB, free_memory=64 * GIB, gpu_memory=80 * GIB, mps=True)
    monkeypatch.setattr(cluster, "this_machine", lambda: machine)
    monkeypatch.setattr(cluster, "_ray", lambda *_, **options: nullcontext())
    monkeypatch.setenv("REFUSED", refused)
    with cluster.cluster(SearchConfig(), None) as plan:
        assert os.environ[mps.PIPES].endswith(f"/{mps.FOLDER}") == (not refused)
    assert (plan.mps, plan.concurrency) == ((False, IN_TURNS_PER_GPU) if refused else (True, SIDE_BY_SIDE_PER_GPU))
    assert plan.note == ("CUDA MPS does not start, so trials take turns on the GPU (no permission)" if refused else "")


WORK = """
import sys, torch
x = torch.full((512, 512), 1 / 512, device="cuda")
print(float((x @ x).sum()), flush=True)
for _ in range(int(sys.argv[1])): x = x @ x * 512 / 512
print(float(x.sum()), flush=True)
"""


@pytest.mark.gpu
@pytest.mark.skipif(not mps.offered(), reason="needs CUDA's Multi-Process Service")
def test_processes_beside_one_that_is_killed_go_on(folder: Path) -> None:
    with mps.service(folder) as fault:
        assert not fault
        works = [
            subprocess.Popen([sys.executable, "-c", WORK, str(count)], stdout=subprocess.PIPE, text=True)
            for count in (10**7, 10**7, 20_000, 20_000)
        ]
        for work in works:
            assert work.stdout is not None and float(work.stdout.readline()) == pytest.approx(512, rel=1e-3)
        for work in works[:2]:
            work.send_signal(signal.SIGKILL)
        assert [work.wait(timeout=60) for work in works] == [-signal.SIGKILL] * 2 + [0] * 2
        late = subprocess.run([sys.executable, "-c", WORK, "10"], stdout=subprocess.PIPE, timeout=60)
        assert late.returncode == 0
    assert mps._answer("get_server_list", os.environ | {mps.PIPES: str(folder / mps.FOLDER)}) is None
    assert torch.ones(3, device="cuda").sum() == 3
