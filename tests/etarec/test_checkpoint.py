"""Checkpoints: a written file reads back the same, and a file that is not a checkpoint gives one message."""

import errno
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from etarec import checkpoint
from etarec.checkpoint import Checkpoint
from etarec.config import ModelConfig, TrainConfig, UserError
from etarec.disk import file_sha256

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
    """Apply `change` to the tensors and the metadata of the file."""
    tensors, about = parts(path)
    about = change(tensors, about) or about
    save_file(tensors, path, {"etarec": json.dumps(about)})


def test_a_round_trip_keeps_everything(frozen: Checkpoint, path: Path):
    again = checkpoint.read(path)
    for name in ("model", "train", "data_sha256", "epochs", "valid"):
        assert getattr(again, name) == getattr(frozen, name)
    assert again.vocabulary.tolist() == frozen.vocabulary.tolist()
    assert again.weights.keys() == frozen.weights.keys()
    for name, array in again.weights.items():
        assert array.dtype == frozen.weights[name].dtype and np.array_equal(array, frozen.weights[name])
    assert again.sha256 == file_sha256(path) and len(again.sha256) == 64
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_round_trip_keeps_every_setting_and_any_token(frozen: Checkpoint, tmp_path: Path):
    hard = ["", 'quoted "ü", with \\ and \n', "日本語 🎮", "0012"]
    vocabulary = pa.array(hard + frozen.vocabulary.tolist()[4:], pa.large_string())
    train = TrainConfig(epochs=7, learning_rate=0.1, dropout=0.0, skip_rate=0.25, seed=9)
    checkpoint.write(replace(frozen, vocabulary=vocabulary, train=train), tmp_path / "c")
    again = checkpoint.read(tmp_path / "c")
    assert again.vocabulary.tolist() == vocabulary.tolist() and again.train == train


def test_writing_twice_gives_the_same_bytes(frozen: Checkpoint, path: Path, tmp_path: Path):
    checkpoint.write(checkpoint.read(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_restored_model_has_a_copy_of_the_weights(frozen: Checkpoint, path: Path):
    stored = checkpoint.read(path)
    model = stored.restore(CPU)
    assert all(np.array_equal(tensor.numpy(), frozen.weights[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(np.array_equal(array, frozen.weights[name]) for name, array in stored.weights.items())
    stored.reset(model)
    assert all(np.array_equal(tensor.numpy(), frozen.weights[name]) for name, tensor in model.state_dict().items())


def test_a_model_is_restored_from_read_only_weights_like_those_of_ray(frozen: Checkpoint):
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


def item_weights(change):
    return lambda tensors, about: tensors.update({"items.weight": change(tensors["items.weight"])})


FOREIGN = {
    "a weight that is NaN": item_weights(lambda weight: weight.index_fill(0, torch.tensor([3]), torch.nan)),
    "an infinite weight": item_weights(lambda weight: weight.index_fill(0, torch.tensor([3]), torch.inf)),
    "integer weights": item_weights(lambda weight: weight.to(torch.int32)),
    "boolean weights": item_weights(lambda weight: weight > 0),
    "weights of half precision": item_weights(lambda weight: weight.bfloat16()),
    "a hash that is a number": update("data_sha256", 5),
    "epochs that are text": update("epochs", "9"),
    "epochs that are true": update("epochs", True),
    "quality that is a list": update("valid", [0.5]),
    "quality that is text": update("valid", {"hr_at_10": "good"}),
    "quality that is NaN": update("valid", {"hr_at_10": float("nan")}),
    "an unknown key": update("note", "x"),
    "no weights": lambda tensors, about: tensors.clear(),
    "no vocabulary": without("__vocabulary__"),
    "a missing weight": without("output_norm.weight"),
    "an additional weight": lambda tensors, about: tensors.update(extra=torch.zeros(2)),
    "a weight of another shape": lambda tensors, about: tensors.update({"items.weight": torch.zeros(5, 16)}),
    "a vocabulary that is not text": lambda tensors, about: tensors.update(__vocabulary__=torch.zeros(9)),
    "a later format": update("format", 2),
    "no format": drop("format"),
    "no model": drop("model"),
    "no hash": drop("data_sha256"),
    "an unknown model setting": update("model", {"depth": 3}),
    "a model setting of another type": update("model", {"width": "64"}),
    "an impossible model": update("model", {"width": 7}),
    "another model": update("model", {"width": 32}),
    "a giant model": update("model", {"width": 2**40}),
    "training settings that are a list": update("train", [1, 2]),
    "metadata that is a list": lambda tensors, about: [1],
}


@pytest.mark.parametrize("change", FOREIGN)
def test_a_foreign_safetensors_file_is_refused(path: Path, change: str):
    rewrite(path, FOREIGN[change])
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoint.read(path)


def test_a_giant_model_is_refused_before_it_is_built(path: Path):
    rewrite(path, update("model", {"width": 2**18}))  # 256 GB per projection
    with pytest.raises(UserError, match="do not fit the model's configuration"):
        checkpoint.read(path)


def test_a_model_of_countless_blocks_is_refused_before_it_is_built(path: Path):
    rewrite(path, update("model", {"blocks": 10**7}))
    with pytest.raises(UserError, match="10000000 blocks for"):
        checkpoint.read(path)


def test_the_fault_of_the_metadata_is_named(path: Path):
    rewrite(path, update("epochs", "9"))
    with pytest.raises(UserError, match=r"of this program \(epochs: Input should be a valid integer\); expected"):
        checkpoint.read(path)


def test_a_safetensors_file_without_metadata_is_refused(path: Path):
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoint.read(path)


def test_a_missing_file_is_named(tmp_path: Path):
    for absent in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            checkpoint.read(absent)


def test_a_checkpoint_of_other_data_is_refused(frozen: Checkpoint):
    frozen.check_against(frozen.vocabulary, frozen.data_sha256, "c")
    tokens = frozen.vocabulary
    for other in (
        tokens[:-1],
        tokens[::-1],
        pc.utf8_upper(tokens),
    ):
        with pytest.raises(UserError, match=r"^c: was trained on .* items that are not the .* of the data; expected"):
            frozen.check_against(other, frozen.data_sha256, "c")
    with pytest.raises(UserError, match=r"^c: was trained on other data or another split \(sha256 of the log, exp"):
        frozen.check_against(frozen.vocabulary, "0123456789abcdef", "c")


def test_a_failed_write_leaves_the_old_file(frozen: Checkpoint, path: Path, monkeypatch):
    before = path.read_bytes()

    def full(target: Path, content: bytes):
        with target.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.write(replace(frozen, model=ModelConfig(), epochs=99), path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
