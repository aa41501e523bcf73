"""`python -m etarec.train`: what it writes, what it prints and how it ends."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etarec import checkpoint, train
from etarec.config import ModelConfig, TrainConfig, UserError

ROOT = Path(__file__).parents[2]
TINY = """
data: {simulation: {users: 150, items: 60}, max_length: 6}
model: {width: 8, heads: 2, mlp_width: 8, mini_batch: 4}
train: {epochs: 2}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def _run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train", "--space", "space.yaml", *arguments])
        status = train.main()
        return status, *capsys.readouterr()

    return _run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_writes_a_checkpoint_and_describes_it(run, folder: Path) -> None:
    Path("old").mkdir()
    Path("old/a.safetensors").write_text("an older file")
    status, out, err = run("--out", "old/a.safetensors", "--set", "model.width=16", "train.seed=3")
    written = checkpoint.read(Path("old/a.safetensors"))
    assert (status, err) == (0, "")
    assert (written.model.width, written.model.heads, written.train.seed, written.train.epochs) == (16, 2, 3, 2)
    *epochs, last = out.splitlines()
    assert [line.split()[:2] for line in epochs] == [["epoch", "1"], ["epoch", "2"]]
    quality = f"HR@10 {written.valid['hr_at_10']:.4f}, NDCG@10 {written.valid['ndcg_at_10']:.4f}"
    assert last == f"checkpoint  old/a.safetensors: epoch {written.epochs}, validation {quality}"
    assert contents(folder).keys() == {"space.yaml", "old/a.safetensors"}


def test_the_folder_of_out_is_created(run) -> None:
    assert run("--out", "new/folder/a.safetensors", "--set", "train.epochs=1")[0] == 0
    assert checkpoint.read(Path("new/folder/a.safetensors")).epochs == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "a", "--set", "train.epoch=3"], "train.epoch: unknown key; did you mean epochs?"),
        (["--out", "a", "--set", "checkpoint=b"], "there is nothing to train"),
        (["--out", "a", "--set", "data.path=gone.csv"], "gone.csv: no such file"),
        (["--out", "space.yaml"], "--out space.yaml: is an input of the training"),
        (["--out", "log.csv", "--set", "data.path=log.csv"], "--out log.csv: is an input of the training"),
        (["--out", "."], "is a folder, expected a file name"),
        (["--out", "space.yaml/a"], "space.yaml is a file, expected a folder"),
        (["--out", "a", "--set", "train.learning_rate=1e30"], "training diverged in epoch"),
    ],
)
def test_a_users_error_ends_with_a_message_and_writes_nothing(run, folder: Path, arguments, expected) -> None:
    Path("log.csv").write_text("user_id,item_id,timestamp\n")
    before = contents(folder)
    status, _, err = run(*arguments)
    assert status == 2
    assert err.startswith("error: ") and expected in err and "Traceback" not in err
    assert contents(folder) == before


def test_ctrl_c_leaves_no_file(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = contents(folder)
    monkeypatch.setattr(Path, "replace", interrupted)  # the new file is complete under a temporary name
    status, _, err = run("--out", "a", "--set", "train.epochs=1")
    assert (status, err) == (130, "interrupted; no checkpoint was written\n")
    assert contents(folder) == before


def test_a_checkpoint_that_cannot_be_written_gives_a_message(folder: Path) -> None:
    trained = checkpoint.Checkpoint(ModelConfig(), TrainConfig(), {}, np.array(["a"]), "", 1, {})
    with pytest.raises(UserError, match=r"space.yaml/a: the checkpoint cannot be written: File exists"):
        checkpoint.write(trained, Path("space.yaml/a"))


def _interrupted(started: subprocess.Popen[str]) -> str:
    """Send SIGINT until the process ends: Python drops a KeyboardInterrupt that arrives inside a destructor."""
    for _ in range(3):
        started.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return started.communicate(timeout=30)[1]
    raise AssertionError("training goes on after three interrupts")


@pytest.mark.slow
def test_ctrl_c_during_training_ends_the_process(folder: Path) -> None:
    command = [sys.executable, "-m", "etarec.train", "--space", "space.yaml", "--out", "a"]
    started = subprocess.Popen(
        [*command, "--set", "train.epochs=100000", "train.patience=100000"],
        env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout is not None and started.stdout.readline().startswith("  epoch   1")
        err = _interrupted(started)
    assert (started.returncode, err) == (130, "interrupted; no checkpoint was written\n")
    assert contents(folder).keys() == {"space.yaml"}


def test_how_the_log_was_read_and_what_looks_wrong_is_printed(run) -> None:
    text = "".join(f"{user},{item},{100 * item + 1}\n" for user in ("a", "b", "NA") for item in range(9))
    Path("log.csv").write_text("user_id,item_id,timestamp\n" + text + "a,1,\n")
    settings = ["data.path=log.csv", "data.k_core=0", "data.drop=[missing_time]", "train.epochs=1"]
    status, out, _ = run("--out", "a", "--set", *settings)
    assert status == 0
    assert "text in UTF-8, separator comma, names in the first line\n" in out
    assert "left out: 1 of 28 rows (data.drop: missing_time)\n" in out
    assert "warning: 9 of 27 interactions (33.3%) have the user 'NA'" in out
