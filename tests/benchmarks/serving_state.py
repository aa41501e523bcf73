"""(j) Memory and time of a served recommender against users and items; each row is measured in a fresh process.

Symbols: V items, D = 64 width.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.data import Interactions
from etarec.models import build
from etarec.serving import Durable, Recommender
from etarec.serving.guard import Guard
from tests.benchmarks.frame import Cell, Settings, Table

ROOT = Path(__file__).parents[2]
MIB = 2**20
HISTORY = 50  # kept items of each user, the most that a model of 50 positions keeps
TOKEN = 12  # characters of a user's id and of an item's
ASKED = 50  # calls of which the median is told
USERS, ITEMS = [10**3, 10**4, 10**5, 10**6], [10**4, 10**5, 10**6]
CONFIGS = {"frozen": AdaptConfig(target="none"), "adapting": AdaptConfig()}


class Measured(NamedTuple):
    """Bytes that the recommender takes, bytes and seconds of its snapshot, and milliseconds of one call each."""

    memory: int
    snapshot: int
    written: float
    read: float
    known: float
    unknown: float
    observed: float
    batch: float


def serving_state(settings: Settings) -> Table:
    """Users against few items, and items against few users, without and with adaptation."""
    users, items = (USERS[:2], ITEMS[:1]) if settings.quick else (USERS, ITEMS)
    pairs = [(count, ITEMS[0]) for count in users] + [(USERS[0], count) for count in items[1:]]
    rows: list[list[Cell]] = []
    for kind in CONFIGS:
        first: Measured | None = None
        for n_users, n_items in pairs:
            own = Measured(*_child([kind, str(n_users), str(n_items)]))
            first = first or own
            more = max(n_users - USERS[0], n_items - ITEMS[0])
            each = [(own[n] - first[n]) / more if more else None for n in (0, 1)]
            times = [own.written, own.read, own.known, own.unknown, own.observed, own.batch]
            rows.append([kind, n_users, n_items, own.memory / MIB, each[0], own.snapshot / MIB, each[1], *times])
    return Table(
        "(j) Memory and time of a served recommender",
        f"Each user has a history of {HISTORY} items, the most that is kept. Ids and tokens have {TOKEN} "
        "characters, and the model is an untrained TTT4Rec of width 64. `adapting` moves all weights with Adam "
        "behind the guard. Memory is the resident memory that checkpoint and recommender add to the process, once "
        "a batch has been learned; bytes each are the growth from the first row, per further user or item. The "
        "snapshot is written to a disk and read from the disk's cache. Calls are made in Python, without HTTP, on "
        "one thread: ten recommendations to a known and to an unknown user, and an observation (medians of "
        f"{ASKED}), and an observation that completes a batch of 256 (median of 3).",
        ["model", "users", "items", "MiB", "bytes each", "snapshot MiB", "bytes each", "write s", "read s", "known ms",
         "unknown ms", "observe ms", "batch ms"],
        rows,
    )  # fmt: skip


def _child(arguments: Sequence[str]) -> list[float]:
    command = [sys.executable, "-m", __name__, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return list(json.loads(done.stdout))


def names(count: int) -> list[str]:
    return [f"{number:0{TOKEN}}" for number in range(count)]


def log_of(n_users: int, n_items: int, kept: int = HISTORY) -> Interactions:
    """A log of users with as many items each, drawn at random, and a catalogue of any size."""
    nobody = np.zeros(n_users, np.int32)
    return Interactions(
        offsets=np.arange(n_users + 1) * kept,
        items=np.random.default_rng(0).integers(1, n_items + 1, n_users * kept).astype(np.int32),
        train_end=nobody,
        valid_end=nobody,
        timestamps=None,
        max_length=HISTORY,
        vocabulary=pa.array(names(n_items), pa.large_string()),
        sha256="",
    )


def recommender_of(kind: str, n_users: int, n_items: int) -> Recommender:
    """A recommender of a model that was not trained, with the users of `log_of`."""
    log = log_of(n_users, n_items)
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build(ModelConfig(), n_items + 1).state_dict().items()}
    checkpoint = Checkpoint(ModelConfig(), TrainConfig(), weights, log.vocabulary, "", 1, {})
    return Recommender(checkpoint, CONFIGS[kind], log, names(n_users), guard=Guard())


def _measured(kind: str, n_users: int, n_items: int) -> Measured:
    learn(recommender_of(kind, 300, 300))  # loads what torch and the kernels load once
    before = _resident()
    recommender = recommender_of(kind, n_users, n_items)
    batches = [learn(recommender) for _ in range(3)]
    memory = _resident() - before
    known, observed = _one_by_one(recommender, n_users)
    unknown = _milliseconds(lambda number: recommender.recommend(["nobody"]))
    with TemporaryDirectory() as folder:
        begin = time.perf_counter()
        served = Durable(recommender, Path(folder))  # takes a first snapshot and reads it
        both = time.perf_counter() - begin
        begin = time.perf_counter()
        served.snapshot()
        written = time.perf_counter() - begin
        snapshot = sum(file.stat().st_size for file in Path(folder).iterdir())
    return Measured(memory, snapshot, written, both - written, known, unknown, observed, median(batches))


def learn(recommender: Recommender) -> float:
    """Let as many users as a batch has observe an item; returns the milliseconds of the call that learned it."""
    size, tokens = recommender.config.batch_size, recommender.catalogue.tokens
    users = list(recommender.users.by_token)[:size]
    recommender.observe(users[:-1], tokens[: len(users) - 1])
    begin = time.perf_counter()
    recommender.observe(users[-1:], tokens[:1])
    return 1000 * (time.perf_counter() - begin)


def _one_by_one(recommender: Recommender, n_users: int) -> tuple[float, float]:
    users, tokens = list(recommender.users.by_token), recommender.catalogue.tokens
    known = _milliseconds(lambda number: recommender.recommend([users[number]]))
    return known, _milliseconds(lambda number: recommender.observe([users[number]], [tokens[number]]))


def _milliseconds(call: Callable[[int], Any]) -> float:
    seconds = []
    for number in range(ASKED):
        begin = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - begin)
    return 1000 * median(seconds)


def _resident() -> int:
    """This process's resident memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(_measured(sys.argv[1], *map(int, sys.argv[2:]))))
