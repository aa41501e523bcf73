"""A formula in place of a recommender: its trade-off is known and costs nothing, so that a search takes seconds."""

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
from etarec.evaluate import Measurement, Watch
from etarec.metrics import SECONDS
from search.subject import Serving

SAMPLES, USERS = 2000, 100


@dataclass(frozen=True)
class Formula:
    """HR@10 falls with the filter rate and with the distance of K from 50; on `test` it is a tenth lower.

    A range (low, high) of entropy_quantile says which trials have a fault.
    """

    fails: tuple[float, float] = (2, 2)  # the trial raises
    kills: tuple[float, float] = (2, 2)  # the trial kills its process
    breaks: tuple[float, float] = (2, 2)  # the trial has a GPU error, after which its process can use no GPU
    nan: tuple[float, float] = (2, 2)  # the trial's seconds are NaN
    slow: tuple[float, float] = (2, 2)  # the trial, if it has a gate, takes `slow_for` seconds
    slow_for: float = 30.0
    nan_without_gate: bool = False  # the seconds of the open gate are NaN
    harms: bool = False  # every pass lowers HR@10, so no adaptation is best
    memory: tuple[float, float] = (2, 2)  # the trial lacks memory if another one runs at the same time
    sleep: float = 0.0  # seconds of a measurement
    prepares: float = 0.0  # seconds of `prepare`
    once: Path | None = None  # folder of configurations that were killed or broken, which are then spared
    crowd: Path | None = None  # folder in which running trials see each other
    log: Path | None = None  # file that gets a line per measurement
    processes: Path | None = None  # file that gets the id, threads and wait policy of every measuring process
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
        quality = 0.4 * filtered if self.harms else quality
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

    def cost(self, config: AdaptConfig, seed: int, serving: Serving) -> float:
        """Skipping a sample saves nine tenths of its cost; a small K is cheaper."""
        assert (serving.everything.gate, serving.share) == ("open", 0.1)
        filtered, _ = trade_off(config)
        return 1 - 0.9 * filtered - (0.05 * (1 - (config.top_k or 500) / 500) if config.gate == "eta" else 0)

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


class GradedFormula(Formula):
    """A formula whose four quality metrics differ: hits have ranks 0 to 9, the other samples 10 to 79."""

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        plain = super().measure(config, split, seed)
        rng = np.random.default_rng(seed)
        ranks = np.where(plain.ranks < 10, rng.integers(0, 10, SAMPLES), rng.integers(10, 80, SAMPLES))
        return replace(plain, ranks=ranks.astype(np.int32))


class WatchedFormula(Formula):
    """A formula that can be watched: all configurations find the same samples hard, spread evenly over the stream.

    A gate with K outside 20 to 100 has half of the hits, so that most trials cannot win.
    """

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        plain, rng = super().measure(config, split, seed), np.random.default_rng(0)
        lost = config.gate == "eta" and not 20 <= (config.top_k or 1000) <= 100
        ranks = np.where(np.arange(SAMPLES) % 2 == 0, 99, np.sort(plain.ranks)) if lost else np.sort(plain.ranks)
        ranks, reasons = ranks[rng.permutation(SAMPLES)].astype(np.int32), plain.reasons[rng.permutation(SAMPLES)]
        return replace(plain, ranks=ranks, reasons=reasons)

    def measure_watched(self, config: AdaptConfig, seed: int, watch: Watch) -> Measurement:
        measured = self.measure(config, "valid", seed)
        for end in range(SAMPLES // 20, SAMPLES, SAMPLES // 20):
            watch(measured.users[:end], measured.ranks[:end], measured.admitted[:end], SAMPLES)
        return measured


def break_the_gpu() -> None:
    """Fail, now and later, as a process whose GPU has an error does."""

    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), fail  # type: ignore[assignment]
    fail()


def trade_off(config: AdaptConfig) -> tuple[float, float]:
    """The filter rate and HR@10 of a configuration."""
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
