"""A recommender's state as one safetensors file: tensors, and JSON in its metadata. Nothing is pickled.

It holds the adapter's snapshot (weights, optimizer moments, E0, the moving average, random generators), the users'
histories and their marks, the samples that wait, popularity, counts and the guard's window.
"""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from etarec.adapt.memory import Marks, Snapshot
from etarec.config import UserError
from etarec.disk import whole_file
from etarec.serving.guard import Guard
from etarec.serving.histories import History, Sample, Users
from etarec.serving.recommender import Recommender

FORMAT = 1
KEY = "etarec.serving"


def write(recommender: Recommender, path: Path, number: int) -> None:
    """Write the state whole, or leave the file as it was. number: of this snapshot among those of a folder."""
    adapter = recommender.adapter.snapshot()
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter.tensors.items()}
    tensors |= _user_tensors(recommender.users)
    tensors["waiting"] = _waiting(recommender)
    tensors["popularity"] = torch.from_numpy(recommender.catalogue.counts)
    if recommender.guard:
        tensors["guard"] = torch.tensor([recommender.guard.adapted, recommender.guard.frozen], dtype=torch.uint8)
    about = {
        **identity(recommender),
        "number": number,
        "adapter": adapter.values,
        "counts": dict(recommender.counts),
        "next_code": recommender.users.next_code,
        "forgotten": recommender.users.forgotten,
    }
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {KEY: json.dumps(about)})
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def identity(recommender: Recommender) -> dict[str, Any]:
    """The facts in which a state and the recommender that continues from it must agree."""
    return {
        "format": FORMAT,
        "checkpoint": recommender.checkpoint.sha256,
        "adapt": dataclasses.asdict(recommender.config),
        "seed": recommender.seed,
        "max_length": recommender.max_length,
    }


def read(recommender: Recommender, path: Path) -> int:
    """Continue from the state in a file, whatever the recommender did before. Returns the snapshot's number.

    Raises UserError if the file is damaged, or of another checkpoint or configuration.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a state of a served recommender ({error})") from error
    for name, expected in json.loads(json.dumps(identity(recommender))).items():
        if about.get(name) != expected:
            raise UserError(
                f"{path}: {name} is another than the recommender's; expected a state of the same checkpoint and "
                "configuration, or an empty folder"
            )
    _restore(recommender, about, tensors)
    return int(about["number"])


def _restore(recommender: Recommender, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    whole = Snapshot({name: tensor.to(recommender.device) for name, tensor in tensors.items()}, about["adapter"])
    recommender.adapter.restore(Snapshot(whole.part("adapter"), about["adapter"]))
    recommender.users = _users(recommender.users, about, tensors)
    histories = list(recommender.users.by_token.values())
    recommender.waiting = [Sample(histories[n], position) for n, position in tensors["waiting"].tolist()]
    recommender.catalogue.counts = tensors["popularity"].numpy()
    recommender.counts = Counter(about["counts"])
    if recommender.guard and "guard" in tensors:
        _restore_guard(recommender.guard, tensors["guard"])


def _restore_guard(guard: Guard, window: Tensor) -> None:
    guard.forget()
    adapted, frozen = window.bool().tolist()
    guard.adapted.extend(adapted)
    guard.frozen.extend(frozen)


def _user_tensors(users: Users) -> dict[str, Tensor]:
    """The histories end to end, in the order of `by_token`."""
    histories = list(users.by_token.values())
    tokens = json.dumps(list(users.by_token)).encode()
    about = [[history.code, len(history.items), history.waiting] for history in histories]
    empty = np.empty(0, np.int32)
    return {
        "user.tokens": torch.frombuffer(bytearray(tokens), dtype=torch.uint8),
        "user.about": torch.tensor(about, dtype=torch.int64).view(-1, 3),
        "user.items": torch.from_numpy(np.concatenate([empty, *(history.items for history in histories)])),
        "user.bits": torch.from_numpy(np.concatenate([empty, *(h.marks.bits for h in histories)]).astype(np.uint8)),
        "user.losses": torch.from_numpy(
            np.concatenate([empty, *(h.marks.losses for h in histories)]).astype(np.float32)
        ),
    }


def _users(now: Users, about: dict[str, Any], tensors: dict[str, Tensor]) -> Users:
    items, bits, losses = (tensors[f"user.{name}"].numpy() for name in ("items", "bits", "losses"))
    tokens = json.loads(tensors["user.tokens"].numpy().tobytes())
    users = Users(now.max_length, now.max_users, next_code=about["next_code"], forgotten=about["forgotten"])
    begin = 0
    for token, (code, length, waiting) in zip(tokens, tensors["user.about"].tolist(), strict=True):
        own = slice(begin, begin + length)
        users.by_token[token] = History(code, items[own].copy(), Marks(bits[own].copy(), losses[own].copy()), waiting)
        begin += length
    return users


def _waiting(recommender: Recommender) -> Tensor:
    """The user, by place among all, and the position of each sample that waits: int[n, 2]."""
    place = {id(history): n for n, history in enumerate(recommender.users.by_token.values())}
    pairs = [[place[id(sample.history)], sample.position] for sample in recommender.waiting]
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
