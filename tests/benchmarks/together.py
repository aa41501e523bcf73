"""A prototype: several configurations stepped together in one process, against one after another.

Symbols: C configurations, B samples of a batch, V items without padding.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from etarec.config import AdaptConfig, ModelConfig
from tests.benchmarks import literal, material, timing
from tests.benchmarks.frame import Cell, Settings, Table

USERS, REPEATS, INPUT, RATE = 400, 3, 16, 0.5
CONFIGURATIONS = (1, 2, 4, 8)


class Prototype:
    """C configurations that differ in their admitted samples; target `weights`, `next_item`, all parameters."""

    def __init__(self, subject: material.Subject, device: torch.device, count: int):
        self.model, self.device = subject.checkpoint.model, device
        self.start = {name: torch.tensor(array, device=device) for name, array in subject.checkpoint.weights.items()}
        self.batches = list(_batches(subject, device))
        rng = np.random.default_rng(0)
        drawn = [rng.random((count, len(served.targets))) >= RATE for served, _ in self.batches]
        self.admitted = [torch.from_numpy(mask).to(device) for mask in drawn]  # [C, B] of each batch
        self.count = count

    def one_after_another(self) -> Tensor:
        """Losses [C, batches]."""
        return torch.stack([self._alone(number) for number in range(self.count)])

    def _alone(self, number: int) -> Tensor:
        weights = {name: tensor.clone().requires_grad_() for name, tensor in self.start.items()}
        optimizer, losses = torch.optim.Adam(weights.values(), 1e-3), []
        for (served, observed), admitted in zip(self.batches, self.admitted, strict=True):
            with torch.no_grad():
                _ranks(weights, self.model, *served)
            mask = admitted[number]
            factors = torch.ones(int(mask.sum()), device=self.device)
            loss = _loss(weights, self.model, *(column[mask] for column in observed), factors)
            losses.append(_step(loss, optimizer))
        return torch.stack(losses)

    def stacked(self) -> Tensor:
        """The same losses [C, batches]."""
        weights = {name: tensor.expand(self.count, *tensor.shape).clone() for name, tensor in self.start.items()}
        for tensor in weights.values():
            tensor.requires_grad_()
        ranks = torch.func.vmap(lambda w, *samples: _ranks(w, self.model, *samples), (0, None, None, None))
        loss = torch.func.vmap(lambda w, *samples: _loss(w, self.model, *samples), 0)
        optimizer, losses = torch.optim.Adam(weights.values(), 1e-3), []
        for (served, observed), admitted in zip(self.batches, self.admitted, strict=True):
            with torch.no_grad():
                ranks(weights, *served)
            own, factors = _own(admitted)
            each = loss(weights, *(column[own] for column in observed), factors)
            losses.append(_step(each, optimizer))
        return torch.stack(losses, 1)


def _own(admitted: Tensor) -> tuple[Tensor, Tensor]:
    """Admitted samples of each configuration and their weights, [C, most], filled up with samples of weight 0."""
    most = int(admitted.sum(1).max())
    own = (~admitted).int().argsort(dim=1, stable=True)[:, :most]
    return own, admitted.gather(1, own).float()


def _step(losses: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad()
    losses.sum().backward()
    optimizer.step()
    return losses.detach()


def _ranks(weights: literal.Weights, model: ModelConfig, items: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
    scores = literal.hidden(weights, model, items, lengths) @ weights["items.weight"][1:].T
    return (scores >= scores.gather(1, targets[:, None])).sum(1) - 1


def _loss(
    weights: literal.Weights, model: ModelConfig, items: Tensor, lengths: Tensor, targets: Tensor, factors: Tensor
) -> Tensor:
    scores = literal.hidden(weights, model, items, lengths) @ weights["items.weight"][1:].T
    losses = scores.logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]
    return (losses * factors).sum() / factors.sum()


def _batches(subject: material.Subject, device: torch.device) -> Iterator[tuple[literal.Samples, literal.Samples]]:
    """The samples of each batch, and the last transitions inside their inputs."""
    data, stream = subject.encoder.data, subject.stream
    first = data.offsets[stream.users]
    ends = first + stream.positions
    starts = np.maximum(first, ends - data.max_length)
    kept = np.flatnonzero(ends - starts > 1)
    for begin in range(0, len(kept), 256):
        part = kept[begin : begin + 256]
        served = literal.prefixes(data, zip(starts[part], ends[part], strict=True))
        observed = literal.prefixes(data, zip(starts[part], ends[part] - 1, strict=True))
        yield (
            literal.Samples(*(column.to(device) for column in served)),
            literal.Samples(*(column.to(device) for column in observed)),
        )


def together(settings: Settings) -> Table:
    subject, rows = _subject(settings, material.DEVICE), []
    for count in CONFIGURATIONS[: 2 if settings.quick else None]:
        rows.append(compare(subject, material.DEVICE, count, 1 if settings.quick else REPEATS))
    return Table(
        "Several configurations in one process, or one after another",
        f"A prototype steps C configurations together (torch.func.vmap over stacked weights, target `weights`, "
        f"`next_item`, all parameters). It is compared with the same plain code run for one configuration after "
        f"another and with the product's own code, one configuration in a process. Each configuration admits its own "
        f"random half of {len(subject.stream):,} samples (inputs of {INPUT} items at most, all "
        f"{subject.encoder.data.n_items - 1:,} items). Their losses are equal. "
        f"CPU seconds of one thread per configuration, {1 if settings.quick else REPEATS} rounds. A ratio below 1 says "
        f"that stacking loses to running one after another, and so to separate processes on separate cores.",
        ["C", "stacked, s each", "one after another, s each", "one after another / stacked", "ours, s each"],
        rows,
    )


def _subject(settings: Settings, device: torch.device) -> material.Subject:
    data = material.part_of(material.interactions(settings), 60 if settings.quick else USERS)
    return material.Subject(replace(data, max_length=INPUT), material.checkpoint(settings), device)


def compare(subject: material.Subject, device: torch.device, count: int, repeats: int) -> list[Cell]:
    """A row of the table, in CPU seconds, on a GPU in wall seconds. Asserts that both ways give the same losses."""
    prototype, losses = Prototype(subject, device, count), dict[str, Tensor]()

    def keep(name: str, work: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: losses.__setitem__(name, work())

    ours = AdaptConfig(gate="random", random_rate=RATE, new_transitions_only=False)
    runs = timing.interleaved(
        [
            keep("stacked", prototype.stacked),
            keep("alone", prototype.one_after_another),
            lambda: subject.trial(ours),
        ],
        repeats,
    )
    torch.testing.assert_close(losses["stacked"], losses["alone"], rtol=1e-4, atol=1e-4)
    if device.type == "cuda":
        runs = [[timing.Timed(run.wall, run.wall) for run in own] for own in runs]
    stacked, alone, own = (timing.cpu(each) for each in runs)
    return [count, stacked / count, alone / count, str(timing.ratio(runs[1], runs[0])), own]
