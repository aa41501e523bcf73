"""Training reads its sections of an experiment file and words its messages as a search does."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from etarec import disk, experiment_file
from etarec.config import DataConfig, ModelConfig, TrainConfig, UserError
from etarec.experiment_file import TrainingSpec, check_file, check_folder, load_training
from search.spec import Spec, load, to_yaml

SPACE = "space: {top_k: {low: 2, high: 9}}\n"


def failure(read, path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(path, overrides)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "space.yaml"


def test_the_sections_of_training_are_read_with_absolute_paths(file: Path) -> None:
    file.write_text("data: {path: logs/a.csv, k_core: 3}\nmodel: {width: 32}\ntrain:\n  # epochs: 3\n")
    assert load_training(file, ["train.epochs=7"]) == TrainingSpec(
        data=DataConfig(path=str(file.parent / "logs/a.csv"), k_core=3),
        model=ModelConfig(width=32),
        train=TrainConfig(epochs=7),
    )


def test_defaults_are_those_of_a_search(file: Path) -> None:
    file.write_text(SPACE)
    spec, trained = load(file), load_training(file)
    assert (trained.data, trained.model, trained.train) == (spec.data, spec.model, spec.train)


def test_sections_that_only_a_search_needs_are_ignored(file: Path) -> None:
    file.write_text("name: a/b\nadapt: {top_k: many}\nspace: 5\nsearch: [1]\nbaselines: {}\ncheckpoint: null\n")
    assert load_training(file) == TrainingSpec(data=DataConfig(dataset="simulated"))


def test_the_spec_yaml_of_a_search_trains_the_same_model(file: Path) -> None:
    spec = Spec(name="x", model=ModelConfig(width=32), train=TrainConfig(epochs=3), space=load_space(file))
    file.write_text(to_yaml(spec))
    assert load_training(file) == TrainingSpec(data=spec.data, model=spec.model, train=spec.train)


def load_space(file: Path):
    file.write_text(SPACE)
    return load(file).space


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("trian: {epochs: 3}", []),
        ("epochs: 3", []),
        ("data: 5", []),
        ("data: {path: a.csv, dataset: simulated}", []),
        ("data: {path: ' '}", []),
        ("data: {columns: {usr: a}}", []),
        ("model: {width: 30, heads: x}\ntrain: {lr: 1, dropout: 1}", []),
        ("train: {epochs: 0}", ["train.seed=-1", "model.width=6"]),
        ("", ["train.epoch=3"]),
        ("", ["trian.epochs=3"]),
        ("", ["train.epochs.x=3"]),
        ("", ["train.epochs"]),
        ("train: 5", ["train.epochs=3"]),
        ("train: [", []),
    ],
)
def test_messages_are_those_of_a_search(file: Path, text: str, overrides: list[str]) -> None:
    file.write_text(SPACE + text)
    assert failure(load_training, file, *overrides) == failure(load, file, *overrides)


@pytest.mark.parametrize("place", ["file", "--set"])
def test_with_a_checkpoint_there_is_nothing_to_train(file: Path, place: str) -> None:
    file.write_text("checkpoint: a.safetensors\n" if place == "file" else SPACE)
    message = failure(load_training, file, *(["checkpoint=a.safetensors"] if place == "--set" else []))
    assert message.startswith(f"{file}: checkpoint: given ")
    assert "there is nothing to train" in message
    assert load_training(file, ["checkpoint=null"]) == TrainingSpec(data=DataConfig(dataset="simulated"))


def test_an_override_that_training_does_not_read_is_refused(file: Path) -> None:
    file.write_text(SPACE)
    assert failure(load_training, file, "search.trials=3") == (
        "--set search.trials=3: training does not read search; expected a key of data, model or train"
    )


def test_every_failing_override_is_named(file: Path) -> None:
    file.write_text("{}")
    texts = ["train.epoch=3", "data.split=ratio", "model.size=1", "nonsense"]
    told = failure(load_training, file, *texts).splitlines()
    assert [line.split(":")[0] for line in told] == [f"--set {text}" for text in texts if "split" not in text]


def test_training_and_search_have_the_same_top_level_keys() -> None:
    assert list(experiment_file.KEYS) == list(Spec.__dataclass_fields__)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "a/b", "--out")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/a/b"):
        with pytest.raises(UserError, match=r"^--out: .*/file is a file, expected a folder$"):
            check_folder(folder, "--out")


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_folder(tmp_path / "a/b", "--out", size=2**20)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^--out: /proc/none/a cannot be written to \(No such file or directory\)"):
        check_folder(Path("/proc/none/a"), "--out")
    with pytest.raises(UserError, match=r"^--out: .* cannot be written to \(File name too long\)"):
        check_folder(tmp_path / ("a" * 256), "--out")
    check_folder(tmp_path / ("a" * 255), "--out")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("dangling", "loop"):
        for folder in (tmp_path / name, tmp_path / name / "b"):
            with pytest.raises(UserError, match=rf"^--out: .*/{name} is a symbolic link that leads nowhere, expected"):
                check_folder(folder, "--out")


def test_a_disk_without_room_is_refused_with_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        assert size == 3 * 2**20
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"^--out: .*/a has no room for 3 MiB \(No space left on device\), expected"):
        check_folder(tmp_path / "a", "--out", size=3 * 2**20)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_inodes_is_refused_though_it_has_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for left, total, refused in ((19, 1000, True), (20, 1000, False), (0, 0, False)):  # 0 of 0: no limit
        monkeypatch.setattr("os.statvfs", lambda place, f=(left, total): SimpleNamespace(f_favail=f[0], f_files=f[1]))
        if not refused:
            check_folder(tmp_path / "a", "--out", files=20)
            continue
        message = r"^--out: .*/a has room for 19 more files \(free inodes\), expected 20; remove some there"
        with pytest.raises(UserError, match=message):
            check_folder(tmp_path / "a", "--out", files=20)


def in_mount(options: str, check: str) -> str:
    """The message of `check_folder` below a file system of its own, mounted with these options."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom etarec.config import UserError\n"
        "from etarec.experiment_file import check_folder\n"
        f"try:\n    check_folder(Path(sys.argv[1]) / 'a', '--out'{check})\n"
        "except UserError as error:\n    print(error)\n"
    )
    script = f'mount -t tmpfs -o {options} x "$0" && exec "$1" -c "$2" "$0"'
    with tempfile.TemporaryDirectory() as place:
        command = ["unshare", "--mount", "sh", "-c", script, place, sys.executable, code]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except FileNotFoundError:
            pytest.skip("needs unshare, of util-linux")
        if "denied" in done.stderr or "not permitted" in done.stderr:
            pytest.skip("needs the right to mount a file system (root)")
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(place, "PLACE")


@pytest.mark.parametrize(
    ("options", "check", "message"),
    [
        ("size=1m", "", ""),
        ("size=1m,nr_inodes=10", ", files=20", "PLACE/a has room for 9 more files (free inodes), expected 20"),
        ("size=1m,ro", "", "PLACE/a cannot be written to (Read-only file system), expected a folder that can"),
        ("size=1m", ", size=2**21", "PLACE/a has no room for 2 MiB (No space left on device), expected that much"),
    ],
)
def test_a_real_file_system_is_tried(options: str, check: str, message: str) -> None:
    said = in_mount(options, check)
    assert said.startswith(f"--out: {message}") if message else said == ""


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_file(tmp_path / "a/b", "--out")
    check_file(tmp_path / ("a" * 255), "--out")
    refused = {
        tmp_path: "is a folder, expected a file name",
        Path("/dev/null"): "is not an ordinary file",
        tmp_path / ("a" * 256): "expected a file name of at most 255 bytes",
        Path("/proc/none/a"): "/proc/none cannot be written to",
    }
    for path, message in refused.items():
        with pytest.raises(UserError, match=f"^--out: .*{message}"):
            check_file(path, "--out")
    assert Path("/dev/null").is_char_device()
