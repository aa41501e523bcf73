"""Data and checkpoint of the benchmarks."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from etarec import evaluate, fitting, train
from etarec.adapt.shared_passes import SharedPasses
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, DataConfig, ModelConfig, SimulationConfig, TrainConfig
from etarec.data import Interactions, Stream, load, stream
from etarec.encode import Encoder
from etarec.evaluate import Measurement
from etarec.models import SequenceModel
from tests.benchmarks import literal
from tests.benchmarks.frame import Settings

DEVICE = torch.device("cpu")
EPOCHS = 5


def data_config(settings: Settings) -> DataConfig:
    if settings.log is not None:
        return DataConfig(path=str(settings.log))
    users = 300 if settings.quick else SimulationConfig().users
    return DataConfig(dataset="simulated", simulation=SimulationConfig(users=users))


@cache
def interactions(settings: Settings) -> Interactions:
    return load(data_config(settings))


@cache
def checkpoint(settings: Settings) -> Checkpoint:
    """A checkpoint after a few epochs, cached; its scores differ enough for a gate to tell samples apart."""
    data = interactions(settings)
    if settings.quick:
        return train.train(data, ModelConfig(), TrainConfig(epochs=1))
    return train.load_or_train(data, ModelConfig(), TrainConfig(epochs=EPOCHS), lambda epoch: None)[0]


def part_of(data: Interactions, users: int, seed: int = 0) -> Interactions:
    """The same catalogue with `users` users, chosen at random."""
    chosen = np.sort(np.random.default_rng(seed).permutation(data.n_users)[:users])
    lengths = np.diff(data.offsets)[chosen]
    rows = np.concatenate([np.arange(data.offsets[user], data.offsets[user + 1]) for user in chosen])
    return replace(
        data,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=data.items[rows],
        train_end=data.train_end[chosen],
        valid_end=data.valid_end[chosen],
        timestamps=None if data.timestamps is None else data.timestamps[rows],
    )


class Subject:
    """The state of a worker between trials: a model, reset to the checkpoint for each, and the shared passes."""

    def __init__(self, data: Interactions, checkpoint: Checkpoint, device: torch.device = DEVICE):
        self.checkpoint, self.model = checkpoint, checkpoint.restore(device)
        self.encoder = Encoder(data, device)
        self.stream: Stream = stream(data, "valid", "position", 0)
        self.shared = SharedPasses(self.model, self.encoder, self.stream, ("benchmark",), None)

    def trial(self, config: AdaptConfig, look_up: bool = False) -> Measurement:
        """look_up: take shared passes from memory, as a search does on validation; otherwise serve every sample."""
        self.checkpoint.reset(self.model)
        shared = self.shared if look_up else None
        return evaluate.measure(self.model, self.encoder, self.stream, config, seed=literal.SEED, shared=shared)


def epoch(model: SequenceModel, data: Interactions, config: TrainConfig, *optimizers: torch.optim.Optimizer) -> float:
    """Runs one epoch of the product's training; returns the mean loss."""
    encoder = Encoder(data, next(model.parameters()).device)
    return fitting._epoch(model, encoder, config, list(optimizers), np.random.default_rng(config.seed))
