"""Measures one configuration, without Ray and MLflow."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from etarec import adapt, likelihood
from etarec.adapt.shared_passes import SharedPasses
from etarec.checkpoint import Checkpoint
from etarec.clock import Clock
from etarec.config import AdaptConfig, OrderName, SplitName
from etarec.data import Interactions, Stream, stream
from etarec.device import default_device
from etarec.encode import Encoder
from etarec.evaluate import Measurement, Watch, measure
from etarec.metrics import COST, SECONDS
from etarec.models import SequenceModel
from search.baselines import ALL, adapting_like, baseline_config
from search.spec import Spec, neutral_config, trial_seed


class Subject(Protocol):
    """The object of a search: it measures a configuration on a split. Tests use a formula."""

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement: ...

    def without_test(self) -> "Subject":
        """A copy for the search's workers, which does not hold the test split."""


@runtime_checkable
class Preparing(Protocol):
    """A subject whose measurements share work that each process does once."""

    def prepare(self, config: AdaptConfig, seed: int) -> None: ...


@runtime_checkable
class Watchable(Protocol):
    """A subject that can be watched while it measures; a trial of any other one is never ended early."""

    def measure_watched(self, config: AdaptConfig, seed: int, watch: Watch) -> Measurement:
        """The measurement on validation. `watch` may end it by an exception."""


@dataclass(frozen=True)
class Serving:
    """How the cost of a configuration is measured: relative to `everything`, on the first `share` of validation."""

    everything: AdaptConfig
    share: float


@runtime_checkable
class Costed(Protocol):
    """A subject that can tell the cost of serving a configuration."""

    def cost(self, config: AdaptConfig, seed: int, serving: Serving) -> float: ...


@dataclass(frozen=True)
class Job:
    """A configuration to measure, and its random seed; `serving` where its cost is measured too."""

    config: AdaptConfig
    seed: int
    serving: Serving | None = None


class NotFiniteError(Exception):
    """A metric is not a finite number; the message names it."""


@dataclass(frozen=True, eq=False)
class Recommender:
    """A checkpoint, data and the order of their streams, as plain arrays that processes can share.

    cache: an absolute folder where each node keeps the passes that all trials share; None keeps them in each process.
    rehearsal: the subject that a search measures instead, see `data.rehearsal`.
    """

    data: Interactions
    checkpoint: Checkpoint
    order: OrderName
    order_seed: int
    cache: Path | None = None
    rehearsal: "Recommender | None" = None

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        """A measurement that starts from the checkpoint's weights, whatever the process measured before.

        On validation, passes that all trials share are looked up, and the seconds are those of the look-up. On test,
        every sample is served, so the seconds are what serving costs.
        """
        return self._on_validation(config, seed) if split == "valid" else self.serve(config, split, seed)

    def measure_watched(self, config: AdaptConfig, seed: int, watch: Watch) -> Measurement:
        return self._on_validation(config, seed, watch)

    def _on_validation(self, config: AdaptConfig, seed: int, watch: Watch | None = None) -> Measurement:
        model, encoder, shared = _resident(self)
        self.checkpoint.reset(model)
        return measure(model, encoder, shared.stream, config, seed, shared, watch)

    def prepare(self, config: AdaptConfig, seed: int) -> None:
        """Looks up the passes of a measurement on validation, or computes and keeps them."""
        model, encoder, shared = _resident(self)
        self.checkpoint.reset(model)
        adapt.build(config, model, encoder, shared.stream, Clock(encoder.device), seed, shared)

    def serve(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        """A measurement in which every sample is served and no pass is looked up."""
        model, encoder, _ = _resident(self)
        self.checkpoint.reset(model)
        return measure(model, encoder, stream(self.data, split, self.order, self.order_seed), config, seed)

    def cost(self, config: AdaptConfig, seed: int, serving: Serving) -> float:
        """Seconds of serving the first part of validation, over those of adapting on everything.

        No pass is looked up. Both are served one after the other, so that a slower moment of the machine changes both.
        """
        mine, everything = (self._seconds(one, seed, serving.share) for one in (config, serving.everything))
        return mine / everything

    def _seconds(self, config: AdaptConfig, seed: int, share: float) -> float:
        """CPU (or GPU) seconds."""
        model, encoder, shared = _resident(self)
        self.checkpoint.reset(model)
        first = slice(max(1, math.ceil(share * len(shared.stream))))
        part = Stream(shared.stream.users[first], shared.stream.positions[first])
        return sum(measure(model, encoder, part, config, seed).seconds[name] for name in SECONDS[1:])

    def without_test(self) -> "Recommender":
        searched = self.rehearsal or self
        return replace(searched, data=searched.data.without_test())


_RESIDENT: dict[tuple[object, ...], tuple[SequenceModel, Encoder, SharedPasses]] = {}


def _resident(subject: Recommender) -> tuple[SequenceModel, Encoder, SharedPasses]:
    """The model, encoder and shared passes of this process, made once, since a worker measures many trials."""
    sources = (subject.checkpoint.sha256, subject.data.sha256, str(subject.data.n_interactions))
    unnamed = None if subject.checkpoint.sha256 else subject.checkpoint  # without a digest: the object itself
    times = "" if subject.data.timestamps is None else hashlib.sha256(subject.data.timestamps.tobytes()).hexdigest()
    key = (*sources, unnamed, times, subject.order, subject.order_seed, subject.cache, torch.get_num_threads())
    if key not in _RESIDENT:
        _RESIDENT.clear()
        device = default_device()
        model, encoder = subject.checkpoint.restore(device), Encoder(subject.data, device)
        validation = stream(subject.data, "valid", subject.order, subject.order_seed)
        if device.type == "cuda":
            warm_up(model, encoder)
        cache = None if unnamed else subject.cache
        _RESIDENT[key] = (model, encoder, SharedPasses(model, encoder, validation, sources, cache))
    return _RESIDENT[key]


def warm_up(model: SequenceModel, encoder: Encoder) -> None:
    """Runs a pass and its gradient before any clock. The first one of a process on a GPU loads code for seconds."""
    model.eval()
    starts = encoder.data.offsets[:-1][:2]
    targets = encoder.items[torch.from_numpy(starts + 1).to(encoder.device)] - 1
    hidden = encoder.hidden(model, starts, starts + 1)
    likelihood.cross_entropy(hidden, model.items.weight, targets, padding=1).backward()
    model.zero_grad()


def prepare(subject: Subject, config: AdaptConfig, seed: int, threads: int) -> None:
    """Lets a process do the work that its trials share before the first of them begins."""
    torch.set_num_threads(threads)
    if isinstance(subject, Preparing):
        subject.prepare(config, seed)


def measure_on_validation(
    subject: Subject,
    config: AdaptConfig,
    seed: int,
    threads: int,
    watch: Watch | None = None,
    serving: Serving | None = None,
) -> Measurement:
    """The measurement of one trial, which `watch` may end, with its cost if `serving` says how that is measured.

    Raises NotFiniteError if a metric is NaN or infinite.
    """
    torch.set_num_threads(threads)
    if watch is not None and isinstance(subject, Watchable):
        measured = subject.measure_watched(config, seed, watch)
    else:
        measured = subject.measure(config, "valid", seed)
    if serving is not None and isinstance(subject, Costed):
        measured = replace(measured, costs={**measured.costs, COST: subject.cost(config, seed, serving)})
    return finite(measured)


def job_of(spec: Spec, config: AdaptConfig) -> Job:
    """The measurement of a configuration in a search."""
    return Job(config, trial_seed(spec.search.seed, config), serving_of(spec))


def serving_of(spec: Spec) -> Serving | None:
    """How a search measures cost; None where it does not."""
    if not spec.search.measures_cost:
        return None
    base = adapting_like(neutral_config(spec), spec.adapt, spec.space)
    return Serving(baseline_config(ALL, base, n_items=0), spec.search.cost_share)


def finite(measurement: Measurement) -> Measurement:
    """The measurement itself. Raises NotFiniteError naming the first metric that is not a finite number."""
    for name, value in measurement.metrics().items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
    return measurement
