"""The small log of etarec's tests, served: its users' histories up to a split, and the observations of that split."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig
from etarec.data import Interactions, Stream, stream
from etarec.serving.guard import Guard
from etarec.serving.recommender import Recommender


@dataclass
class Deployment:
    """A log whose last part has not happened yet."""

    log: Interactions
    frozen: Checkpoint

    def recommender(
        self, config: AdaptConfig, split: str = "test", guard: Guard | None = None, **options
    ) -> Recommender:
        return Recommender(self.frozen, config, self.before(split), self.names(), 3, guard, **options)

    def names(self) -> list[str]:
        return [f"user {n}" for n in range(self.log.n_users)]

    def samples(self, split: str, order: str = "position") -> Stream:
        return stream(self.log, split, order, 0)

    def observations(self, split: str, order: str = "position") -> tuple[list[str], list[str]]:
        """Users and items of the split's samples, in the order of the stream."""
        samples = self.samples(split, order)
        items = self.log.items[self.log.offsets[samples.users] + samples.positions]
        return [f"user {n}" for n in samples.users], self.log.vocabulary.take(pa.array(items - 1)).to_pylist()

    def before(self, split: str) -> Interactions:
        """The log without the split's interactions and those behind them."""
        log, last = self.log, {"valid": self.log.train_end, "test": self.log.valid_end}[split].astype(np.int64)
        positions = np.arange(log.n_interactions) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
        kept = positions <= np.repeat(last, np.diff(log.offsets))
        offsets = np.concatenate([[0], np.cumsum(last + 1)])
        return replace(log, items=log.items[kept], offsets=offsets, valid_end=np.minimum(log.valid_end, last))
