"""Checkpoints: safetensors with their configuration, vocabulary and data hash, no pickle.

The file's metadata is one JSON text under the key `etarec`; the vocabulary is a tensor of UTF-8 bytes of a JSON list.
"""

import dataclasses
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from etarec.config import ModelConfig, TrainConfig, UserError
from etarec.models import SequenceModel, build

FORMAT = 1
_VOCABULARY = "__vocabulary__"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model and where it came from. Arrays are numpy, so that Ray shares one copy between processes."""

    model: ModelConfig
    train: TrainConfig
    weights: dict[str, np.ndarray[Any, Any]]
    vocabulary: np.ndarray[Any, Any]  # item tokens, index = item code - 1
    data_sha256: str
    epochs: int
    valid: dict[str, float]  # quality on the validation split at the best epoch
    sha256: str = ""  # of the file it was read from

    def restore(self, device: torch.device) -> SequenceModel:
        """A model with the checkpoint's weights, which it does not share."""
        model = build(self.model, len(self.vocabulary) + 1).to(device)
        self.reset(model)
        return model

    def reset(self, model: SequenceModel) -> None:
        """Puts the checkpoint's weights back into a model that was adapted, in place."""
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(torch.tensor(self.weights[name]))

    def check_against(self, vocabulary: np.ndarray[Any, Any], data_sha256: str, source: str) -> None:
        """Raises UserError where the data are not those that the checkpoint was trained on."""
        if not np.array_equal(self.vocabulary, vocabulary):
            raise UserError(
                f"{source}: was trained on {len(self.vocabulary):,} other items than the data's {len(vocabulary):,}; "
                f"expected a checkpoint of the same data"
            )
        if self.data_sha256 != data_sha256:
            raise UserError(
                f"{source}: was trained on data or a split of sha256 {self.data_sha256[:12]}, the data at hand have "
                f"{data_sha256[:12]}; with another split validation and test samples may have been trained on"
            )


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Writes the file whole or not at all. Raises UserError where there is no place for it."""
    tokens = json.dumps([str(token) for token in checkpoint.vocabulary], ensure_ascii=False).encode()
    tensors = {name: torch.tensor(array) for name, array in checkpoint.weights.items()}
    tensors[_VOCABULARY] = torch.frombuffer(bytearray(tokens), dtype=torch.uint8)
    about = {
        "format": FORMAT,
        "model": dataclasses.asdict(checkpoint.model),
        "train": dataclasses.asdict(checkpoint.train),
        "data_sha256": checkpoint.data_sha256,
        "epochs": checkpoint.epochs,
        "valid": checkpoint.valid,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save(tensors, {"etarec": json.dumps(about)}))
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """Raises UserError where the file is missing, damaged or no checkpoint of ours."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a checkpoint written by `python -m etarec.train`")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["etarec"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        return dataclasses.replace(_checked(about, weights), sha256=file_sha256(path))
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, ValidationError, OSError) as error:
        raise UserError(
            f"{path}: not a checkpoint of this program ({error}); expected a safetensors file "
            f"written by `python -m etarec.train`"
        ) from error


def _checked(about: dict[str, Any], weights: dict[str, np.ndarray[Any, Any]]) -> Checkpoint:
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, expected {FORMAT}")
    vocabulary = np.array(json.loads(weights.pop(_VOCABULARY).tobytes()), dtype=np.str_)
    model = ModelConfig(**about["model"])
    with torch.device("meta"):  # shapes only: a foreign file may ask for more than fits
        expected = {name: tuple(t.shape) for name, t in build(model, len(vocabulary) + 1).state_dict().items()}
    found = {name: array.shape for name, array in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"weights {', '.join(wrong[:3])} do not fit the model's configuration")
    return Checkpoint(
        model, TrainConfig(**about["train"]), weights, vocabulary, about["data_sha256"], about["epochs"], about["valid"]
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
