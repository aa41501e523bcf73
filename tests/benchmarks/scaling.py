"""Time and peak memory against items and interactions; each row is measured in a fresh process.

Symbols: V items, D = 64 width, N interactions.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from etarec import data, fitting
from etarec.config import AdaptConfig, DataConfig, ModelConfig, TrainConfig
from etarec.data import Interactions
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.models import SequenceModel, build
from tests.benchmarks.frame import Cell, Settings, Table

ROOT = Path(__file__).parents[2]
MIB = 2**20
BATCHES = 3  # measured after a first one, which pays for one-time work
NEGATIVES = 8192
# Arrays of D numbers per item at the peak: the weights; Adam's two moments; the loss's gradient and, while autograd
# passes it on to the embedding, at most two more.
COPIES = {"serve": 1, "gate 50": 1, "gate 500": 1, "adapt": 6, "train": 6, "train, sampled": 3}
ITEM_ARRAYS = 6 * 4  # bytes per item of the gate: moving average, mean and Top-K, each old and new
FIXED = 256 * MIB  # activations of a pass, blocks of scores and libraries that torch loads at its first step
PER_INTERACTION = 80  # bytes at the peak of loading: the log of 16 and its sorted copy, the order, and Arrow's own
TOLERANCE = 1.25
USERS, HISTORY, TRAINED = 2000, 20, 7  # users, and the interactions and training samples of each
FROZEN = 2048  # samples served in a step without adaptation


def items(settings: Settings) -> Table:
    """Benchmark (d), catalogues."""
    sizes = [10**4, 10**5] if settings.quick else [10**4, 10**5, 10**6]
    rows: list[list[Cell]] = []
    for kind in COPIES:
        first = None
        for size in sizes:
            seconds, peak = _child(["items", kind, str(size)])
            first = first or seconds / size
            formula = predicted(kind, size)
            _check(f"{kind} with {size:,} items", peak, formula)
            rows.append([kind, size, seconds, seconds / size / first, peak / MIB, peak / size, formula / MIB])
    return Table(
        "Catalogues: time and peak memory against items",
        f"The table has the seconds of two batches of 256 samples ({2 * FROZEN:,} samples if they are served without "
        f"adaptation, one step of 512 in training) and the process's peak memory beyond Python and its modules. The "
        f"target is `weights` with `next_item`: `gate` moves the projections behind the gate, `adapt` moves all "
        f"weights with Adam and an open gate, `sampled` draws {NEGATIVES:,} items. Formula: copies x V x D x 4 bytes, "
        f"D = 64, with {_listed()}, plus {ITEM_ARRAYS} V bytes and a constant {FIXED // MIB} MiB; the run fails if a "
        f"peak exceeds it by a quarter. Nothing has the size of batch x V.",
        ["work", "items", "seconds", "to linear growth", "peak MiB", "bytes per item", "formula MiB"],
        rows,
    )


def interactions(settings: Settings) -> Table:
    """Benchmark (d), logs."""
    sizes = [10**5, 10**6] if settings.quick else [10**5, 10**6, 10**7]
    rows: list[list[Cell]] = []
    for suffix in ("csv", "parquet"):
        first = None
        for size in sizes:
            with TemporaryDirectory() as folder:
                path = str(Path(folder, f"log.{suffix}"))
                _child(["write", path, str(size)])
                loading, streaming, peak = _child(["interactions", path])
            seconds = loading + streaming
            first = first or seconds / size
            formula = PER_INTERACTION * size + FIXED // 4
            _check(f"{suffix} with {size:,} interactions", peak, formula)
            growth = seconds / size / first
            rows.append([suffix, size, loading, streaming, growth, peak / MIB, peak / size, formula / MIB])
    return Table(
        "Logs: time and peak memory against interactions",
        f"A log has N interactions in random order, N / 10 users and Zipf-distributed items. The table has the seconds "
        f"to load it (parse, sort, 5-core, split), the seconds to make and walk through the validation and test "
        f"streams in the orders `position` and `time`, and the process's peak memory beyond Python and its modules. "
        f"Formula: {PER_INTERACTION} N bytes and {FIXED // 4 // MIB} MiB; the run fails if a peak exceeds it by a "
        f"quarter. Sorting is N log N.",
        ["format", "interactions", "load s", "stream s", "to linear growth", "peak MiB", "bytes each", "formula MiB"],
        rows,
    )


def predicted(kind: str, n_items: int) -> int:
    """Predicted peak bytes of a kind of work."""
    sampled = 12 * 512 * NEGATIVES if kind == "train, sampled" else 0
    return n_items * (COPIES[kind] * ModelConfig().width * 4 + ITEM_ARRAYS) + FIXED + sampled


def _listed() -> str:
    return ", ".join(f"{copies} ({kind})" for kind, copies in COPIES.items())


def _check(what: str, peak: float, formula: float) -> None:
    if peak > TOLERANCE * formula:
        raise AssertionError(f"{what}: the peak of {peak / MIB:.0f} MiB exceeds the formula's {formula / MIB:.0f} MiB")


def _child(arguments: list[str]) -> list[float]:
    command = [sys.executable, "-m", "tests.benchmarks.scaling", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _peak() -> int:
    """This process's peak memory in bytes; that of getrusage would start at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def _items(kind: str, n_items: int) -> list[float]:
    log = _log(n_items)
    before = _peak()
    torch.manual_seed(0)
    model = build(ModelConfig(), n_items + 1)
    encoder = Encoder(log, torch.device("cpu"))
    step = (_training if kind.startswith("train") else _serving)(kind, model, encoder)
    seconds = []
    for number in range(BATCHES + 1):
        begin = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - begin)
    return [median(seconds[1:]), _peak() - before]


def _log(n_items: int) -> Interactions:
    """Interactions of USERS users with uniformly drawn items of a catalogue of any size."""
    return Interactions(
        offsets=np.arange(USERS + 1) * HISTORY,
        items=np.random.default_rng(0).integers(1, n_items + 1, USERS * HISTORY).astype(np.int32),
        train_end=np.full(USERS, TRAINED, np.int32),
        valid_end=np.full(USERS, 10, np.int32),
        timestamps=None,
        max_length=50,
        vocabulary=pa.array(np.arange(n_items)).cast(pa.large_string()),
        sha256="",
    )


def _serving(kind: str, model: SequenceModel, encoder: Encoder) -> Callable[[int], object]:
    """Measures two batches with a fresh adapter: the first makes the moving average for the second."""
    served = data.stream(encoder.data, "test", "position", 0)
    config = {
        "serve": AdaptConfig(target="none"),
        "gate 50": AdaptConfig(parameters="projections", top_k=50),
        "gate 500": AdaptConfig(parameters="projections", top_k=500),
        "adapt": AdaptConfig(gate="open"),
    }[kind]
    size = FROZEN if kind == "serve" else config.batch_size

    def step(number: int) -> object:
        rows = slice(2 * number * size, 2 * (number + 1) * size)
        return measure(model, encoder, data.Stream(served.users[rows], served.positions[rows]), config, 0)

    return step


def _training(kind: str, model: SequenceModel, encoder: Encoder) -> Callable[[int], object]:
    """Trains epochs of one step, each on other users."""
    config = TrainConfig(negatives=NEGATIVES if kind == "train, sampled" else None)
    optimizers, rng = fitting._optimizers(model, config), np.random.default_rng(0)
    users = config.batch_size // TRAINED

    def step(number: int) -> object:
        some = slice(number * users, (number + 1) * users)
        log = encoder.data
        part = replace(
            log,
            offsets=log.offsets[some.start : some.stop + 1],
            train_end=log.train_end[some],
            valid_end=log.valid_end[some],
        )
        return fitting._epoch(model, Encoder(part, encoder.device), config, optimizers, rng)

    return step


def _write(path: str, size: int) -> list[float]:
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "user_id": generator.integers(0, size // 10, size),
            "item_id": generator.zipf(1.2, size) % (size // 10),
            "timestamp": generator.integers(1_500_000_000, 1_600_000_000, size),
        }
    )
    (pa.csv.write_csv if path.endswith("csv") else pa.parquet.write_table)(table, path)
    return []


def _interactions(path: str) -> list[float]:
    before, begin = _peak(), time.perf_counter()
    log = data.load(DataConfig(path=path))
    loaded = time.perf_counter()
    for order in ("position", "time"):
        for split in ("valid", "test"):
            served = data.stream(log, split, order, 0)
            for start in range(0, len(served), 256):
                log.offsets[served.users[start : start + 256]] + served.positions[start : start + 256]
    return [loaded - begin, time.perf_counter() - loaded, _peak() - before]


def _main(what: str, first: str, size: str = "0") -> list[float]:
    torch.set_num_threads(1)
    if what == "items":
        return _items(first, int(size))
    return _write(first, int(size)) if what == "write" else _interactions(first)


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))
