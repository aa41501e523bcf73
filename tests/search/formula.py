"""A formula in place of a recommender: it has a known trade-off and costs nothing, so that tests search in seconds."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from etarec.config import AdaptConfig, Reason, SplitName
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS

SAMPLES, USERS = 2000, 100


@dataclass(frozen=True)
class Formula:
    """HR@10 falls with the filter rate, fastest where K is far from 50; `test` is a tenth lower than `valid`.

    fails, kills, nan: a trial whose entropy_quantile lies in the range (low, high) raises, kills its process or has NaN
    seconds; slow: a gated one takes `slow_for` seconds. log: a file that gets a line per measurement, processes: one
    that gets the measuring process, its threads and how they wait. sleep: seconds of a measurement, prepares: of what
    a process does before its first one.
    breaks: one in the range has an error of its GPU, after which its process can use none any more.
    once: a folder in which a killed or broken configuration leaves its name, and is spared from then on. crowd: one in
    which those that run know of each other; a trial whose entropy_quantile lies in `memory` lacks it beside others.
    """

    fails: tuple[float, float] = (2, 2)
    kills: tuple[float, float] = (2, 2)
    breaks: tuple[float, float] = (2, 2)
    nan: tuple[float, float] = (2, 2)
    slow: tuple[float, float] = (2, 2)
    slow_for: float = 30.0
    nan_without_gate: bool = False
    memory: tuple[float, float] = (2, 2)
    sleep: float = 0.0
    prepares: float = 0.0
    once: Path | None = None
    crowd: Path | None = None
    log: Path | None = None
    processes: Path | None = None
    holds_test: bool = True

    def prepare(self, config: AdaptConfig, seed: int) -> None:
        time.sleep(self.prepares)

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        if split == "test" and not self.holds_test:
            raise AssertionError("a search worker asked for the test split")
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{split} {config.gate} {config.target} {config.top_k} {config.entropy_quantile!r}\n")
        if self.processes:
            with self.processes.open("a") as file:
                file.write(f"{os.getpid()} {torch.get_num_threads()} {os.environ.get('OMP_WAIT_POLICY')}\n")
        with self.among_others(config):
            slow = inside(config.entropy_quantile, self.slow) and config.gate == "eta"
            time.sleep(self.slow_for if slow else self.sleep)
        if inside(config.entropy_quantile, self.fails):
            raise RuntimeError("the formula was told to fail")
        if inside(config.entropy_quantile, self.kills) and not self.was_killed(split, config):
            os.kill(os.getpid(), signal.SIGKILL)
        if inside(config.entropy_quantile, self.breaks) and not self.was_killed(split, config):
            break_the_gpu()
        filtered, quality = trade_off(config)
        hits = round(SAMPLES * quality * (0.9 if split == "test" else 1.0))
        rng = np.random.default_rng(seed)
        nan = inside(config.entropy_quantile, self.nan) or (self.nan_without_gate and config.gate == "open")
        seconds = float("nan") if nan else 0.01
        return Measurement(
            users=np.repeat(np.arange(USERS, dtype=np.int32), SAMPLES // USERS),
            ranks=rng.permutation(np.where(np.arange(SAMPLES) < hits, 0, 99).astype(np.int32)),
            reasons=np.where(np.arange(SAMPLES) >= round(SAMPLES * filtered), Reason.ADMITTED, Reason.ENTROPY).astype(
                np.int8
            ),
            seconds=dict.fromkeys(SECONDS, seconds),
        )

    def was_killed(self, split: str, config: AdaptConfig) -> bool:
        if self.once is None:
            return False
        name = self.once / f"{split} {config.gate} {config.top_k} {config.entropy_quantile!r}"
        known = name.exists()
        name.touch()
        return known

    @contextmanager
    def among_others(self, config: AdaptConfig) -> Iterator[None]:
        if self.crowd is None:
            yield
            return
        mine = self.crowd / str(os.getpid())
        mine.touch()
        try:
            time.sleep(0.2)
            if inside(config.entropy_quantile, self.memory) and len(list(self.crowd.iterdir())) > 1:
                raise torch.OutOfMemoryError("the formula was told to need all memory")
            yield
        finally:
            mine.unlink()

    def without_test(self) -> "Formula":
        return replace(self, holds_test=False)


def break_the_gpu() -> None:
    """What a process without one sees of it."""

    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), fail  # type: ignore[assignment]
    fail()


def trade_off(config: AdaptConfig) -> tuple[float, float]:
    """Filter rate and quality of a configuration."""
    if config.target == "none":
        return 1.0, 0.2
    if config.gate == "open":
        return 0.0, 0.5
    if config.gate == "random":
        return config.random_rate, 0.5 - 0.3 * config.random_rate
    filtered = 1 - config.entropy_quantile
    distance = abs(np.log((config.top_k or 1000) / 50))
    return filtered, 0.5 - 0.2 * filtered**2 - 0.02 * distance - 0.05 * (1 - config.cosine_threshold)


def inside(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] < value < bounds[1]
