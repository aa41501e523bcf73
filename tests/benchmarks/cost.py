"""(k) The CPU time of a search against the size of its log, by formula and by measurement.

A step of training and a batch of a trial are measured on a catalogue of the log's size; their numbers follow from the
split. Two logs are measured whole, too, which tests the formula. This module run as a program measures one size.

Symbols: N interactions, by N / 10 users.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from etarec import data, fitting
from etarec.config import AdaptConfig, DataConfig, ModelConfig, TrainConfig
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.models import build
from search.selection import stats
from tests.benchmarks import scaling
from tests.benchmarks.frame import Cell, Settings, Table

LOGS = ((10**5, 10**4), (10**6, 10**4), (10**6, 10**5), (10**7, 10**5), (10**7, 10**6))  # interactions and items
WHOLE = ((10**5, 10**4), (10**6, 10**5))  # those that are also measured without a formula
ANCHORS, TRIALS, ON_TEST = 7, 64, 25  # measurements; of fronts and baselines on test about so many
EPOCHS = 30
BATCH, STEP = 256, 512  # samples
STEPS = 2
REPLICATES, DRAWN, COMPARED = 2000, 20, 40  # resamples, those that are measured, and configurations
SHARES = {"train": 0.4, "valid": 0.1, "test": 0.4}  # samples of N, by the published split of ten interactions a user


def cost(settings: Settings) -> Table:
    logs = LOGS[:1] if settings.quick else LOGS
    parts = {items: _child("parts", 0, items) for items in dict.fromkeys(items for _, items in logs)}
    bounds = {size: _child("intervals", size, 0)[0] for size in dict.fromkeys(size for size, _ in logs)}
    rows: list[list[Cell]] = [
        [size, items, "formula", *parts[items], *_formula(size, *parts[items]), bounds[size]] for size, items in logs
    ]
    for log in (log for log in WHOLE if log in logs):
        rows.append([*log, "whole", None, None, *_child("whole", *log), None, None, None])
    shares = ", ".join(f"{share:g} N {name}" for name, share in SHARES.items())
    return Table(
        f"(k) CPU time of a search of {TRIALS} trials against interactions",
        f"A log of N interactions by N / 10 users has {shares} samples. Formula: an epoch of "
        f"training is `train` / {STEP} steps with {scaling.NEGATIVES:,} negatives; a trial that adapts on everything "
        f"is `valid` / {BATCH} batches, and a measurement on test `test` / {BATCH}; a search is {EPOCHS} epochs, "
        f"{TRIALS} trials and {ANCHORS} anchors, and {ON_TEST} measurements on test. The CPU seconds of a step and of "
        f"a batch are measured with an untrained model on {scaling.USERS:,} users and a catalogue of that size. "
        "`whole` is an epoch and a trial measured without any extrapolation. A trial with a gate is cheaper, and a "
        f"rehearsal's stream is longer, about 0.3 N samples. `intervals` are {REPLICATES:,} bootstrap resamples of all "
        f"users for {COMPARED} configurations, from {DRAWN} of them.",
        [
            "interactions",
            "items",
            "by",
            "step s",
            "batch s",
            "epoch s",
            "trial s",
            "on test s",
            "search h",
            "intervals s",
        ],
        rows,
    )


def _formula(size: int, step: float, batch: float) -> list[float]:
    """Seconds of an epoch, of a trial and of a measurement on test, and hours of a search."""
    epoch = SHARES["train"] * size / STEP * step
    trial, on_test = (SHARES[name] * size / BATCH * batch for name in ("valid", "test"))
    return [epoch, trial, on_test, (EPOCHS * epoch + (TRIALS + ANCHORS) * trial + ON_TEST * on_test) / 3600]


def _child(what: str, interactions: int, items: int) -> list[float]:
    command = [sys.executable, "-m", __name__, what, str(interactions), str(items)]
    done = subprocess.run(command, cwd=scaling.ROOT, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _parts(interactions: int, items: int) -> list[float]:
    """CPU seconds of a step of training and of a batch of a trial."""
    torch.manual_seed(0)
    model = build(ModelConfig(), items + 1)
    encoder = Encoder(scaling._log(items), torch.device("cpu"))
    train, serve = scaling._training("train, sampled", model, encoder), scaling._serving("adapt", model, encoder)
    return [_cpu(train), _cpu(serve) / 2]


def _cpu(step: Callable[[int], object]) -> float:
    """Median CPU seconds of a step, after a first one that pays for one-time work."""
    seconds = []
    for number in range(STEPS + 1):
        begin = time.process_time()
        step(number)
        seconds.append(time.process_time() - begin)
    return median(seconds[1:])


def _whole(interactions: int, items: int) -> list[float]:
    """CPU seconds of an epoch and of a trial, on a log of a tenth as many items as interactions."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "log.parquet"))
        scaling._write(path, interactions)
        log = data.load(DataConfig(path=path, k_core=1))
    torch.manual_seed(0)
    model, config = build(ModelConfig(), log.n_items), TrainConfig(negatives=scaling.NEGATIVES)
    encoder, rng = Encoder(log, torch.device("cpu")), np.random.default_rng(0)
    optimizers, begin = fitting._optimizers(model, config), time.process_time()
    fitting._epoch(model, encoder, config, optimizers, rng)
    middle = time.process_time()
    measure(model, encoder, data.stream(log, "valid", "position", 0), AdaptConfig(gate="open"), 0)
    return [middle - begin, time.process_time() - middle]


def _intervals(interactions: int, items: int) -> list[float]:
    """CPU seconds of the bootstrap over all users."""
    users = interactions // 10
    sums = np.random.default_rng(0).integers(0, 3, (users, COMPARED)).astype(np.float64)
    begin = time.process_time()
    stats.bootstrap_means(sums, np.full(users, 4.0), DRAWN, seed=0)
    return [(time.process_time() - begin) * REPLICATES / DRAWN]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"parts": _parts, "whole": _whole, "intervals": _intervals}[sys.argv[1]](*map(int, sys.argv[2:]))))
