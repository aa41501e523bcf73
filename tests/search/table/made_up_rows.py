"""Rows of a table and their cells, measured at random."""

import numpy as np

from etarec.config import AdaptConfig, ModelConfig, Reason, TrainConfig
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS
from search.table.rows import Row
from search.table.tabulate import Cell

USERS = np.repeat(np.arange(60, dtype=np.int32), np.random.default_rng(0).integers(2, 9, 60))


def measured(hit: float, seed: int, filtered: float = 0.0) -> Measurement:
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random(len(USERS)) < hit, rng.integers(0, 10, len(USERS)), 30).astype(np.int32)
    reasons = np.where(np.arange(len(USERS)) >= round(filtered * len(USERS)), Reason.ADMITTED, Reason.ENTROPY)
    return Measurement(USERS, ranks, reasons, dict.fromkeys(SECONDS, 2.0 + seed))


def row(name: str, seeds: tuple[int, ...] = (0, 1), **more) -> Row:
    return Row(name, ModelConfig(), TrainConfig(), AdaptConfig(**more.pop("adapt", {})), "user", seeds, **more)


def cell(name: str, seed: int, hit: float, filtered: float = 0.0) -> Cell:
    splits = {"valid": measured(hit, seed + 10, filtered), "test": measured(hit, seed, filtered)}
    return Cell(name, seed, 7 + seed, f"sha{seed}", splits)
