"""Checkpoints: what is written comes back, and what is none is refused with one message."""

import errno
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from etarec import checkpoint
from etarec.checkpoint import Checkpoint
from etarec.config import ModelConfig, TrainConfig, UserError

CPU = torch.device("cpu")


@pytest.fixture
def path(frozen: Checkpoint, tmp_path: Path) -> Path:
    target = tmp_path / "folder" / "frozen.safetensors"
    checkpoint.write(frozen, target)
    return target


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    with safe_open(path, framework="pt") as file:
        return load_file(path), json.loads(file.metadata()["etarec"])


def rewrite(path: Path, change) -> None:
    """The same file with tensors and metadata changed."""
    tensors, about = parts(path)
    about = change(tensors, about) or about
    save_file(tensors, path, {"etarec": json.dumps(about)})


def test_round_trip(frozen: Checkpoint, path: Path):
    again = checkpoint.read(path)
    for name in ("model", "train", "data_sha256", "epochs", "valid"):
        assert getattr(again, name) == getattr(frozen, name)
    assert again.vocabulary.tolist() == frozen.vocabulary.tolist()
    assert again.weights.keys() == frozen.weights.keys()
    for name, array in again.weights.items():
        assert array.dtype == frozen.weights[name].dtype and np.array_equal(array, frozen.weights[name])
    assert again.sha256 == checkpoint.file_sha256(path) and len(again.sha256) == 64
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_round_trip_of_every_setting_and_of_any_token(frozen: Checkpoint, tmp_path: Path):
    vocabulary = frozen.vocabulary.astype("<U40")
    vocabulary[:4] = ["", 'quoted "ü", with \\ and \n', "日本語 🎮", "0012"]
    train = TrainConfig(epochs=7, learning_rate=0.1, dropout=0.0, skip_rate=0.25, seed=9)
    checkpoint.write(replace(frozen, vocabulary=vocabulary, train=train), tmp_path / "c")
    again = checkpoint.read(tmp_path / "c")
    assert again.vocabulary.tolist() == vocabulary.tolist() and again.train == train


def test_writing_twice_gives_the_same_bytes(frozen: Checkpoint, path: Path, tmp_path: Path):
    checkpoint.write(checkpoint.read(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_restored_model_has_the_weights_and_shares_none(frozen: Checkpoint, path: Path):
    stored = checkpoint.read(path)
    model = stored.restore(CPU)
    assert all(np.array_equal(tensor.numpy(), frozen.weights[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(np.array_equal(array, frozen.weights[name]) for name, array in stored.weights.items())
    stored.reset(model)
    assert all(np.array_equal(tensor.numpy(), frozen.weights[name]) for name, tensor in model.state_dict().items())


def test_weights_may_be_read_only_as_ray_gives_them(frozen: Checkpoint):
    weights = {name: array.copy() for name, array in frozen.weights.items()}
    for array in weights.values():
        array.setflags(write=False)
    replace(frozen, weights=weights).restore(CPU)


DAMAGES = {
    "empty": lambda raw: b"",
    "cut short": lambda raw: raw[:-100],
    "only a header": lambda raw: raw[:40],
    "garbage in front": lambda raw: b"\xff" * 8 + raw,
    "a pickle": lambda raw: pickle.dumps({"weights": [1, 2]}),
    "text": lambda raw: b"name: demo\n" * 50,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name(path: Path, damage: str):
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match="not a checkpoint of this program") as error:
        checkpoint.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_is_not_run(path: Path, tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, path)
    with pytest.raises(UserError):
        checkpoint.read(path)
    assert not (tmp_path / "sprung").exists()


def without(name):
    def change(tensors, about):
        del tensors[name]

    return change


def drop(key):
    return lambda tensors, about: {name: value for name, value in about.items() if name != key}


def update(key, value):
    return lambda tensors, about: {**about, key: value}


FOREIGN = {
    "no weights": lambda tensors, about: tensors.clear(),
    "no vocabulary": without("__vocabulary__"),
    "a weight less": without("output_norm.weight"),
    "a weight more": lambda tensors, about: tensors.update(extra=torch.zeros(2)),
    "a weight of another shape": lambda tensors, about: tensors.update({"items.weight": torch.zeros(5, 16)}),
    "a vocabulary that is no text": lambda tensors, about: tensors.update(__vocabulary__=torch.zeros(9)),
    "a later format": update("format", 2),
    "no format": drop("format"),
    "no model": drop("model"),
    "no hash": drop("data_sha256"),
    "an unknown model setting": update("model", {"depth": 3}),
    "a model setting of another type": update("model", {"width": "64"}),
    "an impossible model": update("model", {"width": 7}),
    "another model": update("model", {"width": 32}),
    "a giant model": update("model", {"width": 2**40}),
    "training settings that are none": update("train", [1, 2]),
    "metadata that is a list": lambda tensors, about: [1],
}


@pytest.mark.parametrize("change", FOREIGN)
def test_a_foreign_safetensors_file_is_refused(path: Path, change: str):
    rewrite(path, FOREIGN[change])
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoint.read(path)


def test_a_models_size_is_checked_before_it_is_built(path: Path):
    rewrite(path, update("model", {"width": 2**18}))  # 256 GB per projection
    with pytest.raises(UserError, match="do not fit the model's configuration"):
        checkpoint.read(path)


def test_a_file_without_our_metadata_is_refused(path: Path):
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoint.read(path)


def test_a_missing_file_is_named(tmp_path: Path):
    for absent in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            checkpoint.read(absent)


def test_other_data_are_refused(frozen: Checkpoint):
    frozen.check_against(frozen.vocabulary, frozen.data_sha256, "c")
    for other in (frozen.vocabulary[:-1], frozen.vocabulary[::-1], np.char.add(frozen.vocabulary, "x")):
        with pytest.raises(UserError, match=r"^c: was trained on .* items"):
            frozen.check_against(other, frozen.data_sha256, "c")
    with pytest.raises(UserError, match=r"^c: was trained on data or a split of sha256 of the log"):
        frozen.check_against(frozen.vocabulary, "0123456789abcdef", "c")


def test_a_failed_write_leaves_the_old_file(frozen: Checkpoint, path: Path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.write(replace(frozen, model=ModelConfig(), epochs=99), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
