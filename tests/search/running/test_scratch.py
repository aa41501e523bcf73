"""Folders for Ray's files: a killed search's is removed by the next one, and nobody else's ever is."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from etarec.config import UserError
from search.running import cluster, scratch
from search.running.scratch import MARKER, PREFIX, RAY
from search.spec import SearchConfig

OURS = f"{PREFIX}0123456789abcd"
NOBODY = 65534
LONGEST_PID = len("4194304")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch, "LONGEST_BASE", 10_000)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def made(folder: Path, mark: bytes | None = None) -> Path:
    """A folder as a killed search leaves it; `mark`: what its marker says instead."""
    (folder / RAY / "session").mkdir(parents=True)
    (folder / RAY / "session/log").write_text("kept")
    (folder / "latest").symlink_to(RAY)
    (folder / MARKER).write_bytes(scratch._mark(folder.name) if mark is None else mark)
    return folder


def content(folder: Path) -> dict[str, bytes | str | None]:
    """Every path below the folder with its bytes or its link's target."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def search(base: Path) -> list[str]:
    """The warnings of a later search, which also leaves nothing of its own."""
    warnings: list[str] = []
    before = set(base.iterdir())
    with scratch.scratch(warnings.append) as folder:
        assert folder.parent == base and folder not in before
    assert not folder.exists()
    return warnings


def test_the_folder_is_closed_to_others_and_gone_afterwards(base: Path) -> None:
    with scratch.scratch(pytest.fail) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / RAY).mkdir(mode=0o777)
        (folder / RAY / "file").touch()
        with scratch.scratch(pytest.fail) as beside:
            assert folder.exists() and beside.exists()
    assert not list(base.iterdir())


def test_a_killed_searchs_folder_is_removed_and_said(base: Path) -> None:
    outside = base / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (made(base / OURS) / "link").symlink_to(outside)
    assert search(base) == [f"removed {base / OURS}, the temporary files of a search that was killed"]
    assert list(base.iterdir()) == [outside] and (outside / "file").exists()


NAMES = ["etarec-runs", "etarec-0123456789abcd", ".etarec", ".etarec-", ".etarec-runs", f"{OURS}0", f"{OURS}.old"]


@pytest.mark.parametrize("name", [*NAMES, ".etarec-0123456789ABCD", "etarec-cache", "etarec_0123", "ray"])
def test_a_folder_of_another_name_is_left_alone_whatever_it_holds(base: Path, name: str) -> None:
    """A user's --out or ETAREC_CACHE, even one with a copy of a marker."""
    made(base / name)
    (base / name / "trials.jsonl").write_text("{}\n")
    before = content(base)
    assert not search(base) and content(base) == before


MARKS = {
    "empty": b"",
    "another's": scratch._mark(f"{PREFIX}{'f' * scratch.DIGITS}"),
    "torn": scratch._mark(OURS)[:-1],
    "longer": scratch._mark(OURS) + b"x" * 5000,
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS.keys())
def test_a_folder_with_another_marker_is_left_alone(base: Path, mark: bytes) -> None:
    made(base / OURS, mark)
    before = content(base)
    assert not search(base) and content(base) == before


def without_marker(folder: Path) -> None:
    (made(folder) / MARKER).unlink()


def empty(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("a file")


def a_link(folder: Path) -> None:
    folder.symlink_to(made(folder.parent / "elsewhere", scratch._mark(folder.name)))


def a_dangling_link(folder: Path) -> None:
    folder.symlink_to("nowhere")


def marker_is_a_link(folder: Path) -> None:
    marker = made(folder) / MARKER
    marker.rename(folder.parent / "marker")
    marker.symlink_to(folder.parent / "marker")


def marker_is_a_folder(folder: Path) -> None:
    without_marker(folder)
    (folder / MARKER).mkdir()


def marker_is_a_pipe(folder: Path) -> None:
    without_marker(folder)
    os.mkfifo(folder / MARKER)


FOREIGN = [
    without_marker, empty, a_file, a_link, a_dangling_link, marker_is_a_link, marker_is_a_folder, marker_is_a_pipe,
]  # fmt: skip


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_what_only_looks_like_ours_is_left_alone(base: Path, make: Callable[[Path], None]) -> None:
    make(base / OURS)
    before = content(base)
    assert not search(base) and content(base) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("given", [[""], [MARKER], ["", MARKER]], ids=["folder", "marker", "both"])
def test_another_users_folder_is_left_alone(base: Path, given: list[str]) -> None:
    made(base / OURS)
    for name in given:
        os.chown(base / OURS / name, NOBODY, NOBODY)
    before = content(base)
    assert not search(base) and content(base) == before


@contextmanager
def another_search() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that is in the middle of a search, and its folder."""
    program = (
        "import sys, time\nfrom search.running import scratch\nscratch.LONGEST_BASE = 10_000\n"
        "with scratch.scratch(print) as folder:\n"
        "    (folder / 'ray').mkdir()\n    print(folder, flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_a_living_searchs_folder_is_kept_and_a_killed_ones_is_not(base: Path) -> None:
    with another_search() as (process, folder):
        assert not search(base) and (folder / RAY).is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / RAY).is_dir()
        assert len(search(base)) == 1 and not folder.exists()


def test_a_removal_that_was_not_whole_is_taken_up(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(base / OURS)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *arguments, **options: None)
        assert not search(base)
    assert (folder / MARKER).exists() and (folder / RAY).exists()
    assert search(base) and not folder.exists()


def test_the_base_is_made_or_the_variable_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(base / "not" / "there"))
    with scratch.scratch(pytest.fail) as folder:
        assert folder.parent == base / "not" / "there"
    (base / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(base / "file"))
    with (
        pytest.raises(UserError, match=r"RAY_TMPDIR, .*/file is a file, expected a folder"),
        scratch.scratch(pytest.fail),
    ):
        pass


def test_the_usual_folder_is_taken_unless_its_path_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for usual, expected in (
        ("/" + "v" * 15, "/" + "v" * 15),
        ("/" + "v" * 16, scratch.SHORT_BASE),
        ("/ü" + "v" * 14, "/tmp"),
    ):
        monkeypatch.setattr("tempfile.tempdir", usual)
        assert str(scratch._base()) == expected


@pytest.mark.ray
def test_rays_sockets_fit_below_the_longest_base_and_nobody_else_can_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path("/tmp", f"s{os.getpid()}".ljust(scratch.LONGEST_BASE - len("/tmp/"), "_"))
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    assert len(str(base)) == scratch.LONGEST_BASE
    try:
        with cluster.cluster(SearchConfig(concurrency=1), None, warn=pytest.fail):
            (folder,) = base.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            sockets = [path for path in folder.resolve().rglob("sockets/*") if path.is_socket()]
            lengths = [len(str(path)) - len(str(os.getpid())) + LONGEST_PID for path in sockets]
            assert max(lengths) == 107 and not list(folder.glob("session_*"))
        assert not ray.is_initialized() and not list(base.iterdir())
    finally:
        base.rmdir()
