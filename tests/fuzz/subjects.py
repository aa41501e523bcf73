"""The readers of foreign files, each as a function of bytes, with files that each of them reads.

A function returns what it read, or None where the bytes gave one UserError that begins with the file's name.
"""

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import torch

from etarec import checkpoint, describe, readers
from etarec.checkpoint import Checkpoint
from etarec.config import DataConfig, ModelConfig, TrainConfig, UserError
from etarec.document import parse_yaml, to_text
from etarec.models import build
from search.records.records import Records
from search.records.states import State
from search.records.trial import Anchor
from search.spec import Spec, load

ROWS = [(f"u{n % 3}", f"i{n % 4}", 1_600_000_000 + n) for n in range(12)]
NAMES = ("user_id", "item_id", "timestamp")
METRICS = {"hr_at_10": 0.5, "filter_rate": 0.25}


@cache
def folder() -> Path:
    """A folder of this process; a subject writes its file into it."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def one_message(content: bytes, name: str, read: Callable[[Path], Any]) -> Any:
    """The result of `read` for a file of these bytes; None for one UserError. Any other exception is a fault."""
    path = folder() / name
    path.write_bytes(content)
    try:
        return read(path)
    except UserError as error:
        if not all(line.startswith(str(path)) for line in str(error).split("\n")):
            raise AssertionError(f"a message does not name the file: {error}") from error
        return None


def log(content: bytes) -> Any:
    return one_message(content, "log", lambda path: readers.read(DataConfig(path=str(path))))


def described(content: bytes) -> Any:
    return one_message(content, "log", lambda path: list(describe.report({"path": str(path)})))


def spec(content: bytes) -> Spec | None:
    found: Spec | None = one_message(content, "mine.yaml", load)
    return found


def journal(content: bytes) -> Records | None:
    def read(path: Path) -> Records:
        records = Records(path.parent)
        records.table()
        return records

    found: Records | None = one_message(content, "trials.jsonl", read)
    return found


def model(content: bytes) -> Checkpoint | None:
    found: Checkpoint | None = one_message(content, "model.safetensors", checkpoint.read)
    return found


@cache
def logs() -> tuple[bytes, ...]:
    """The same log in every form."""
    text = "\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in ROWS)]).encode() + b"\n"
    objects = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    table, parquet, feather, packed = pa.Table.from_pylist(objects), io.BytesIO(), io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(table, parquet)
    pa.feather.write_feather(table, feather)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("log.csv", text)
    lines = "".join(json.dumps(one) + "\n" for one in objects).encode()
    files = (parquet, feather, packed)
    return (text, text.replace(b",", b"\t"), lines, gzip.compress(text), *(file.getvalue() for file in files))


@cache
def journals() -> tuple[bytes, ...]:
    """The journal of a search with every kind of event."""
    with tempfile.TemporaryDirectory() as place:
        records = Records(Path(place))
        records.begin({"seed": 0, "source": {"gate.py": "aa"}})
        records.parent_tracked("run")
        records.anchored(Anchor("none", {"target": "none"}, METRICS))
        for number in range(3):
            records.started(number, {"top_k": number + 2, "admit": "confident"})
            records.tracked(number, f"run{number}")
        records.finished(0, METRICS, {"hr_at_10": [0.4, 0.5]})
        records.retried(1, "died", "trace")
        records.ended(2, State.FAILED, "error: <b>", "trace\nback")
        return (Path(place, "trials.jsonl").read_bytes(),)


@cache
def models() -> tuple[bytes, ...]:
    """A small trained model."""
    config = ModelConfig(name="gru4rec", width=4, mlp_width=4)
    torch.manual_seed(0)
    weights = {name: tensor.numpy().astype(np.float32) for name, tensor in build(config, 6).state_dict().items()}
    tokens = pa.array([f"i{n}" for n in range(5)], pa.large_string())
    made = Checkpoint(config, TrainConfig(), weights, tokens, "0" * 64, 1, {"hr_at_10": 0.5})
    with tempfile.TemporaryDirectory() as place:
        checkpoint.write(made, Path(place, "model"))
        return (Path(place, "model").read_bytes(),)


def specs() -> tuple[bytes, ...]:
    """The default experiment without its comments."""
    text = (Path(__file__).parents[2] / "configs" / "space.yaml").read_text()
    return (to_text(parse_yaml(text, "space.yaml")).encode(),)


SUBJECTS: dict[str, tuple[Callable[[bytes], Any], Callable[[], tuple[bytes, ...]]]] = {
    "log": (log, logs),
    "described log": (described, logs),
    "spec": (spec, specs),
    "journal": (journal, journals),
    "checkpoint": (model, models),
}
