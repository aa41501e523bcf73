"""The limits of containers and batch systems, as both versions of control groups write them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import psutil
import pytest

from search.running import cgroup
from search.running.plan import this_machine

GIB = 2**30


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of /sys/fs/cgroup; the process is in the group /batch/job of both versions."""
    (tmp_path / "groups").write_text("4:memory:/batch/job\n3:cpu,cpuacct:/batch/job\n1:name=systemd:/\n0::/batch/job\n")
    monkeypatch.setattr(cgroup, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroup, "MOUNT", tmp_path / "mount")
    return tmp_path / "mount"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_no_group_is_no_limit(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroup.memory() == (inf, inf) and cgroup.cores() == inf
    monkeypatch.setattr(cgroup, "GROUPS", mount / "none")
    assert cgroup.memory() == (inf, inf) and cgroup.cores() == inf


def test_a_parent_limits_its_children(mount: Path) -> None:
    use, stat = str(GIB), f"anon 5\ninactive_file {GIB // 4}\nactive_file 7"
    write(mount / "batch/job", memory__max="max", memory__current=use, memory__stat=stat, cpu__max="max 100000")
    write(mount / "batch", memory__max=str(4 * GIB), memory__current=use, memory__stat=stat, cpu__max="150000 100000")
    assert cgroup.memory() == (4 * GIB, 3.25 * GIB)
    assert cgroup.cores() == 1.5


def test_version_1_with_its_own_names(mount: Path) -> None:
    unlimited = str(2**63 - 4096)
    use = {"memory__usage_in_bytes": str(GIB), "memory__stat": f"inactive_file 3\ntotal_inactive_file {GIB // 2}"}
    write(mount / "memory", memory__limit_in_bytes=unlimited, **use)
    write(mount / "memory/batch/job", memory__limit_in_bytes=str(2 * GIB), **use)
    write(mount / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(mount / "cpu/batch/job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert cgroup.memory() == (2 * GIB, 1.5 * GIB)
    assert cgroup.cores() == 3


def test_a_container_that_sees_its_own_group_as_the_root(mount: Path) -> None:
    """Docker without a namespace for control groups: the path is one of the host and does not exist here."""
    write(mount, memory__max=str(GIB), memory__current="0", cpu__max="50000 100000")
    assert cgroup.memory() == (GIB, GIB) and cgroup.cores() == 0.5


def test_a_group_above_its_limit_has_nothing_free(mount: Path) -> None:
    write(mount, memory__max=str(GIB), memory__current=str(2 * GIB), memory__stat="damaged")
    assert cgroup.memory() == (GIB, 0)


def test_the_plan_follows_the_limits(mount: Path) -> None:
    write(mount, memory__max=str(GIB), memory__current=str(GIB // 4), cpu__max="50000 100000")
    here = this_machine()
    assert (here.cores, here.memory, here.free_memory) == (1, GIB, 0.75 * GIB)
    write(mount, memory__max=str(2**62), memory__current="0", cpu__max=f"{2**40} 100000")
    here = this_machine()
    assert here.memory == psutil.virtual_memory().total and here.cores == len(os.sched_getaffinity(0))


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A control group of this test's own with 700 MiB of memory."""
    for root, limit in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (cgroup.MOUNT, "memory.max")):
        group = root / f"etarec-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(700 * 2**20))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("needs the right to make a control group with a limit of memory (root)")


def test_a_real_limit_is_found(real_group: Path) -> None:
    code = "from search.running.plan import this_machine; print(this_machine().memory / 2**20)"
    command = [
        "sh",
        "-c",
        'echo $$ > "$0" && exec "$1" -c "$2"',
        str(real_group / "cgroup.procs"),
        sys.executable,
        code,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "700.0\n", done.stderr
