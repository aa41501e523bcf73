"""Measure one configuration: no Ray, no MLflow."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, OrderName, SplitName
from etarec.data import Interactions, stream
from etarec.encode import Encoder
from etarec.evaluate import Measurement, measure
from etarec.models import SequenceModel
from etarec.train import default_device


class Subject(Protocol):
    """What is searched: something that measures a configuration on a split. Tests search a formula."""

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement: ...

    def without_test(self) -> "Subject":
        """The same, not holding the test split: what the search's workers get."""


@dataclass(frozen=True)
class Job:
    """A configuration to measure, and the seed of its chance."""

    config: AdaptConfig
    seed: int


class NotFiniteError(Exception):
    """A trial's objective is not a finite number; the message names it."""


@dataclass(frozen=True, eq=False)
class Recommender:
    """A frozen checkpoint, data and the order of their streams: plain arrays, so that processes share one copy."""

    data: Interactions
    checkpoint: Checkpoint
    order: OrderName
    order_seed: int

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        """Every measurement starts from the checkpoint's weights, whatever the process measured before."""
        model, encoder = _resident(self)
        self.checkpoint.reset(model)
        return measure(model, encoder, stream(self.data, split, self.order, self.order_seed), config, seed)

    def without_test(self) -> "Recommender":
        return Recommender(self.data.without_test(), self.checkpoint, self.order, self.order_seed)


_RESIDENT: dict[tuple[str, str, int], tuple[SequenceModel, Encoder]] = {}


def _resident(subject: Recommender) -> tuple[SequenceModel, Encoder]:
    """This process's model and encoder; built once, since a worker measures many trials."""
    key = (subject.checkpoint.sha256, subject.data.sha256, subject.data.n_interactions)
    if key not in _RESIDENT:
        _RESIDENT.clear()
        device = default_device()
        _RESIDENT[key] = (subject.checkpoint.restore(device), Encoder(subject.data, device))
    return _RESIDENT[key]


def measure_on_validation(subject: Subject, config: AdaptConfig, seed: int, threads: int) -> Measurement:
    """One trial. Raises NotFiniteError where a metric is NaN or infinite."""
    torch.set_num_threads(threads)
    return finite(subject.measure(config, "valid", seed))


def finite(measurement: Measurement) -> Measurement:
    """The measurement, or NotFiniteError with the first metric that is not a finite number."""
    for name, value in measurement.metrics().items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
    return measurement
