"""Checkpoints: a model's weights with its configuration, vocabulary and data hash, in one safetensors file, no pickle.

The file's metadata holds one JSON text under the key `etarec`. The vocabulary is a tensor: a JSON list as UTF-8 bytes.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from etarec import own
from etarec.config import ModelConfig, TrainConfig, UserError
from etarec.disk import file_sha256, write_whole
from etarec.models import SequenceModel, build, check

FORMAT = 1
_VOCABULARY = "__vocabulary__"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model and its origin. Arrays are numpy's, so that Ray shares one copy between processes."""

    model: ModelConfig
    train: TrainConfig
    weights: dict[str, np.ndarray[Any, Any]]
    vocabulary: pa.LargeStringArray  # [V - 1], index c - 1 holds the token of item code c
    data_sha256: str
    epochs: int  # the best epoch, whose weights these are
    valid: dict[str, float]  # quality metrics on the validation split after that epoch
    code: str = ""  # digest of the code of a model of the user's own, with which it was trained
    sha256: str = ""  # of the file from which the checkpoint was read

    def restore(self, device: torch.device) -> SequenceModel:
        """A model on `device` with a copy of the checkpoint's weights."""
        model = build(self.model, len(self.vocabulary) + 1).to(device)
        self.reset(model)
        return model

    def reset(self, model: SequenceModel) -> None:
        """Restore the checkpoint's weights, in place, in a model that was adapted."""
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(torch.tensor(self.weights[name]))

    def check_against(self, vocabulary: pa.LargeStringArray, data_sha256: str, source: str) -> None:
        """Raise UserError, whose message begins with `source`, unless the checkpoint was trained on these data.

        The code of a model of the user's own must be that of its training.
        """
        if not self.vocabulary.equals(vocabulary):
            raise UserError(
                f"{source}: was trained on {len(self.vocabulary):,} items that are not the {len(vocabulary):,} items "
                f"of the data; expected a checkpoint trained on the same data"
            )
        if self.data_sha256 != data_sha256:
            raise UserError(
                f"{source}: was trained on other data or another split (sha256 {self.data_sha256[:12]}, expected "
                f"{data_sha256[:12]}), so training may have seen validation and test samples"
            )
        if self.code != (now := code_of(self.model)):
            raise UserError(
                f"{source}: was trained with other code of {self.model.class_path} ({self.code}, now {now}); "
                "expected the same code, or a checkpoint made with the present one"
            )


def code_of(model: ModelConfig) -> str:
    """The digest of the code of a model of the user's own, on which its weights depend; empty for other models."""
    return "" if model.class_path is None else own.digest(model.class_path)


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint whole or leave `path` as it was. Raises UserError if it cannot be written there."""
    content = save(_tensors(checkpoint), {"etarec": json.dumps(_metadata(checkpoint))})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be written: {error.strerror}") from error


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file. Raises UserError if the file is missing, damaged or not a checkpoint."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a checkpoint written by `python -m etarec.train`")
    try:
        with safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {})["etarec"]
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return dataclasses.replace(_checked(about, weights), sha256=file_sha256(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, ValidationError, OSError) as error:
        reason = _reason(error)
        raise UserError(
            f"{path}: not a checkpoint of this program ({reason}); expected a safetensors file "
            f"written by `python -m etarec.train`"
        ) from error


def _reason(error: Exception) -> str:
    """An error on one line; of several faults of the metadata the first, with its place."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
    return str(error).partition("\n")[0]


def class_path(path: Path) -> str | None:
    """The class of the user's own whose weights a file holds; None for other models, and for what `read` refuses."""
    try:
        with safe_open(path, framework="numpy") as file:
            found: str | None = json.loads((file.metadata() or {})["etarec"])["model"].get("class_path")
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OSError):
        return None
    return found


def _tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    tokens = json.dumps([str(token) for token in checkpoint.vocabulary], ensure_ascii=False).encode()
    vocabulary = torch.frombuffer(bytearray(tokens), dtype=torch.uint8)
    return {name: torch.tensor(array) for name, array in checkpoint.weights.items()} | {_VOCABULARY: vocabulary}


def _metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": checkpoint.model.settings(),
        "train": dataclasses.asdict(checkpoint.train),
        "data_sha256": checkpoint.data_sha256,
        "epochs": checkpoint.epochs,
        "valid": checkpoint.valid,
        **({"code": checkpoint.code} if checkpoint.code else {}),
    }


class _About(BaseModel):
    """The metadata of a checkpoint file: exact types, every key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    model: ModelConfig
    train: TrainConfig
    data_sha256: str
    epochs: Annotated[int, Field(ge=0)]  # 0: trained elsewhere
    valid: dict[str, FiniteFloat]
    code: str = ""


def _checked(text: str, weights: dict[str, np.ndarray[Any, Any]]) -> Checkpoint:
    """The checkpoint in a file's metadata and tensors. If they do not fit, ValueError, KeyError or TypeError."""
    about = _About.model_validate_json(text)
    tokens = weights.pop(_VOCABULARY).tobytes()
    vocabulary = pa.array(TypeAdapter(list[str]).validate_json(tokens, strict=True), pa.large_string())
    if about.model.blocks > len(weights):  # building so many would take hours
        raise ValueError(f"{about.model.blocks} blocks for {len(weights)} weights")
    check(about.model)
    # Only shapes, no memory: a foreign file may ask for a giant model. A class of the user's own may need real tensors.
    with torch.device("meta" if about.model.class_path is None else "cpu"):
        state = build(about.model, len(vocabulary) + 1).state_dict()
    expected = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()}
    found = {name: (array.shape, f"torch.{array.dtype}") for name, array in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"weights {', '.join(wrong[:3])} do not fit the model's configuration")
    if infinite := [name for name, array in weights.items() if not np.isfinite(array).all()]:
        raise ValueError(f"weights {', '.join(infinite[:3])} are not all finite")
    trained_on = (about.data_sha256, about.epochs, about.valid)
    return Checkpoint(about.model, about.train, weights, vocabulary, *trained_on, about.code)
