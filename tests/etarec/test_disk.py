"""Files and kept arrays are complete or absent, also when writers are killed or write at the same time."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from etarec import disk
from etarec.disk import look_up, try_folder, whole_file, write_whole


def artifacts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


LAYOUT: disk.Layout = {"values": (np.int32, (5,))}


def values(number: int) -> disk.Arrays:
    return {"values": np.full(5, number, np.int32)}


def test_old_artifacts_are_removed_and_mapped_ones_stay_readable(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "MAX_ARTIFACTS", 2)
    first = look_up(tmp_path, ["0"], LAYOUT, lambda: values(0))
    assert isinstance(first["values"], np.memmap) and not first["values"].flags.writeable
    for number in range(1, 4):
        os.utime(artifacts(tmp_path)[0], (number, number))
        look_up(tmp_path, [str(number)], LAYOUT, lambda number=number: values(number))
    assert len(artifacts(tmp_path)) == 2 and len(list(tmp_path.glob("*.lock"))) == 4  # a process may hold the locks
    assert first["values"].tolist() == [0] * 5
    monkeypatch.setattr(disk, "MAX_BYTES", 1)
    look_up(tmp_path, ["9"], LAYOUT, lambda: values(9))
    (newest,) = artifacts(tmp_path)
    assert json.loads((newest / disk.MANIFEST).read_text())["key"] == ["9"]


def foreign_folders(folder: Path) -> list[Path]:
    """Folders with names like an artifact's that `look_up` did not make, or not for this user."""
    digest = "0123456789abcdef"
    names = [
        "shared-photos",
        "shared-",
        f".{disk.PREFIX}{digest}",
        f"{disk.PREFIX}{digest}",
        f"{disk.PREFIX}{digest[::-1]}",
    ]
    places = [folder / name for name in names]
    for place in places:
        place.mkdir()
        (place / "precious").write_bytes(bytes(100))
    (places[-1] / disk.MANIFEST).write_text('["not", "ours"]')
    linked = folder / f"{disk.PREFIX}{'a' * 16}"
    linked.symlink_to(places[0])
    return [*places, linked]


def test_folders_of_others_stay_whatever_their_names(tmp_path: Path, monkeypatch) -> None:
    foreign = foreign_folders(tmp_path)
    monkeypatch.setattr(disk, "MAX_BYTES", 1)
    for number in range(3):
        look_up(tmp_path, [str(number)], LAYOUT, lambda number=number: values(number))
    assert all((place / "precious").exists() for place in foreign)
    assert len([place for place in artifacts(tmp_path) if (place / "values.npy").exists()]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_artifacts_of_another_user_stay(tmp_path: Path, monkeypatch) -> None:
    look_up(tmp_path, ["theirs"], LAYOUT, lambda: values(0))
    (theirs,) = artifacts(tmp_path)
    os.chown(theirs, 12345, 12345)
    monkeypatch.setattr(disk, "MAX_BYTES", 1)
    for number in range(2):
        look_up(tmp_path, [str(number)], LAYOUT, lambda number=number: values(number))
    assert (theirs / "values.npy").exists() and len(artifacts(tmp_path)) == 2


WORKER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from etarec import disk
folder, deed = Path(sys.argv[1]), sys.argv[2]
def compute():
    with (folder / "computed").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.5)
    return {"values": np.full(5, 7, np.int32)}
def die(path, array, **options):
    Path(path).write_bytes(b"a part")
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "die":
    np.save = die
(folder / f"ready {os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
found = disk.look_up(folder, ["key"], {"values": (np.int32, (5,))}, compute)
assert found["values"].tolist() == [7] * 5 and isinstance(found["values"], np.memmap)
"""


def start(folder: Path, deed: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(disk.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), deed], env=environment)


def test_an_artifact_of_a_killed_writer_is_computed_again_by_one_of_several_processes(
    tmp_path: Path,
) -> None:
    (tmp_path / "go").touch()
    assert start(tmp_path, "die").wait(60) == -signal.SIGKILL
    (partial,) = artifacts(tmp_path)
    assert partial.name.startswith(f".{disk.PREFIX}") and [path.name for path in partial.iterdir()] == ["values.npy"]
    (tmp_path / "go").unlink()
    (tmp_path / "computed").unlink()
    workers = [start(tmp_path, "live") for _ in range(2)]
    while not all((tmp_path / f"ready {worker.pid}").exists() for worker in workers):
        assert [worker.poll() for worker in workers] == [None, None]
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert len((tmp_path / "computed").read_text().splitlines()) == 1
    (place,) = artifacts(tmp_path)
    assert not place.name.startswith(".")


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chosen.yaml"
    write_whole(file, "first: ε\n")
    assert file.read_text(encoding="utf-8") == "first: ε\n"

    def cut_off(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            write_whole(file, "second\n")
    with suppress(ValueError), whole_file(file) as partial:
        partial.write_text("half")
        raise ValueError
    assert file.read_text(encoding="utf-8") == "first: ε\n"
    assert [path.name for path in tmp_path.iterdir()] == ["chosen.yaml"]
    write_whole(file, b"\x00\xff\r\n")
    assert file.read_bytes() == b"\x00\xff\r\n"


def test_an_error_names_the_file_and_not_the_one_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "chosen.yaml"
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(file, "text")
    assert caught.value.filename == str(file)


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    with whole_file(file) as slow:
        slow.write_text("slow, ")
        write_whole(file, "fast")
        assert file.read_text() == "fast"
        with slow.open("a") as more:
            more.write("whole")
    assert file.read_text() == "slow, whole"
    assert [path.name for path in tmp_path.iterdir()] == ["library.so"]


def test_a_file_with_the_longest_name_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / ("a" * 255), "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]


def test_trying_a_folder_leaves_what_others_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(descriptor: int, start: int, size: int) -> None:
        (tmp_path / "a/theirs").write_text("")

    monkeypatch.setattr(disk.os, "posix_fallocate", meanwhile)
    try_folder(tmp_path / "a/b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["theirs"]
