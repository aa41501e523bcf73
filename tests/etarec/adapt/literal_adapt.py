"""Adaptation in literal loops: one sample per forward, torch's own losses, one optimizer step per batch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from etarec import evaluate
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, SplitName
from etarec.data import Interactions, Stream, stream
from etarec.encode import Encoder
from etarec.evaluate import Measurement
from etarec.models import SequenceModel

CPU = torch.device("cpu")


@dataclass
class World:
    """A stream on a frozen checkpoint. In double precision, so that a fast and a literal form agree over many steps."""

    log: Interactions
    frozen: Checkpoint
    split: SplitName = "test"

    def model(self) -> SequenceModel:
        return self.frozen.restore(CPU).double().eval()

    def samples(self) -> Stream:
        return stream(self.log, self.split, "position", 0)

    def measure(self, config: AdaptConfig, model: SequenceModel | None = None, seed: int = 0) -> Measurement:
        return evaluate.measure(model or self.model(), Encoder(self.log, CPU), self.samples(), config, seed)

    def inputs(self, user: int, position: int) -> torch.Tensor:
        history = self.log.items[self.log.offsets[user] : self.log.offsets[user + 1]]
        return torch.tensor(history[max(0, position - self.log.max_length) : position], dtype=torch.long)

    def target(self, user: int, position: int) -> int:
        return int(self.log.items[self.log.offsets[user] + position]) - 1


def scores_of(model: SequenceModel, inputs: torch.Tensor, **kwargs: object) -> torch.Tensor:
    """[V], of one sequence alone."""
    return model(inputs[None], **kwargs)[0, -1] @ model.items.weight[1:].T


def rank_of(scores: torch.Tensor, target: int) -> int:
    return int((scores >= scores[target]).sum()) - 1


def literal_fisher(world: World, samples: int) -> dict[str, torch.Tensor]:
    """The mean over training samples of the squared gradient of -log p(target), one sample at a time."""
    model, train = world.model(), stream(world.log, "train", "user", 0)
    chosen = np.random.default_rng(0).permutation(len(train))[:samples]
    squares = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for user, position in zip(train.users[chosen], train.positions[chosen], strict=True):
        model.zero_grad()
        target = torch.tensor(world.target(int(user), int(position)))
        F.cross_entropy(scores_of(model, world.inputs(int(user), int(position))), target).backward()
        for name, weight in model.named_parameters():
            gradient = weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
            squares[name] += gradient.square() / len(chosen)
    return squares


class LiteralWeights:
    """Target `weights` of section 2.3, sample by sample."""

    def __init__(self, world: World, config: AdaptConfig, gate, seed: int):
        self.world, self.config, self.gate, self.model = world, config, gate, world.model()
        self.chance = np.random.default_rng(seed)
        moving = {name: p for name, p in self.model.named_parameters() if self._moves(name)}
        kinds: dict[str, Callable] = {
            "adam": lambda p: torch.optim.Adam(p, lr=config.learning_rate, betas=(config.momentum, 0.999)),
            "sgd": lambda p: torch.optim.SGD(p, lr=config.learning_rate, momentum=config.momentum),
        }
        self._optimizer = lambda: kinds[config.optimizer](list(moving.values()))
        self.optimizer = self._optimizer()
        self.surprise: dict[tuple[int, int], float] = {}  # the loss of a sample's target, when it was served
        self.learned: set[tuple[int, int]] = set()
        self.shallow: set[tuple[int, int]] = set()
        self.passes = self.outputs = self.shallow_steps = 0
        self.bound: float | None = None
        self.moving = moving
        self.start = {name: weight.detach().clone() for name, weight in moving.items()}
        self.importance = literal_fisher(world, config.fisher_samples) if config.fisher_alpha else {}

    def _penalty(self) -> torch.Tensor | float:
        squares = (
            (importance * (self.moving[name] - self.start[name]).square()).sum()
            for name, importance in self.importance.items()
            if name in self.moving
        )
        return self.config.fisher_alpha * sum(squares)

    def _moves(self, name: str) -> bool:
        groups = {"projections": name.split(".")[-2] in "qkvo", "body": name != "items.weight", "all": True}
        return groups[self.config.parameters]

    def serve(self, users: np.ndarray, positions: np.ndarray) -> tuple[list[int], list[str]]:
        samples = [(int(u), int(t)) for u, t in zip(users, positions, strict=True)]
        inputs = [self.world.inputs(*sample) for sample in samples]
        ranks, scores = self._ranks(samples, inputs)
        for (user, position), z in zip(samples, scores, strict=True):
            self.surprise[user, position] = F.cross_entropy(z, torch.tensor(self.world.target(user, position))).item()
        # With `serve: after` a batch is ranked last, so none of its targets may be learned yet.
        unserved = samples if self.config.serve == "after" else []
        self.shown = [self._transitions(*sample, unserved) for sample in samples]
        seen = np.array([not shown for shown in self.shown]) & (self.config.objective == "next_item")
        verdicts = self._verdicts(np.stack([z.numpy() for z in scores]), seen, samples)
        admitted = [n for n, verdict in enumerate(verdicts) if verdict == "admitted"]
        if self.config.correction == "selection" and self.bound is not None:
            for n in admitted:
                older = [place for place in self.shown[n][:-1] if self._admits(samples[n][0], place)]
                self.shown[n] = older + self.shown[n][-1:]
        self._taught_once(admitted, samples)
        losses = [loss * self._weight(n) for n in admitted for loss in self._losses(n, samples, inputs)]
        newest = self._newest_of_skipped(admitted, samples) if self.config.filtered != "nothing" else []
        self.passes, self.outputs = self.passes + len(admitted), self.outputs + len(losses)
        self.shallow_steps += len(newest)
        losses += [self._shallow_loss(*samples[n], place) for n, place in newest]
        if losses:
            self.optimizer.zero_grad()
            (sum(losses) / len(losses) + self._penalty()).backward()
            self.learned |= {(samples[n][0], place) for n in admitted for place in self.shown[n]}
            self.shallow |= {(samples[n][0], place) for n, place in newest}
            self.optimizer.step()
        ranks = self._ranks(samples, inputs)[0] if self.config.serve == "after" else ranks
        if self.config.reset == "batch":
            self.model.load_state_dict(self.world.model().state_dict())
            self.optimizer = self._optimizer()
        return ranks, verdicts

    @torch.no_grad()
    def _ranks(self, samples, inputs):
        scores = [scores_of(self.model, sequence) for sequence in inputs]
        return [rank_of(z, self.world.target(*sample)) for z, sample in zip(scores, samples, strict=True)], scores

    def _transitions(self, user: int, position: int, unserved: list[tuple[int, int]]) -> list[int]:
        """Places, in the user's history, of what follows in transitions that the sample may learn from."""
        first = position - len(self.world.inputs(user, position)) + 1
        known = self.learned if self.config.transitions == "pending" else set()
        behind = position + (self.config.feedback == "immediate")
        places = range(first if self.config.transitions == "pending" else max(first, behind - 1), behind)
        trained = self.world.log.train_end[user] if self.config.new_transitions_only else -1
        return [p for p in places if p > trained and (user, p) not in known and (user, p) not in unserved]

    def _admits(self, user: int, place: int) -> bool:
        return (self.surprise[user, place] < self.bound) == (self.config.admit == "confident")

    def _taught_once(self, admitted: list[int], samples: list[tuple[int, int]]) -> None:
        """A transition that several samples offer is taught by the first of them."""
        taught: set[tuple[int, int]] = set()
        for n in admitted:
            self.shown[n] = [place for place in self.shown[n] if (samples[n][0], place) not in taught]
            taught |= {(samples[n][0], place) for place in self.shown[n]}

    def _newest_of_skipped(self, admitted: list[int], samples: list[tuple[int, int]]) -> list[tuple[int, int]]:
        taught = {(samples[n][0], place) for n in admitted for place in self.shown[n]} | self.shallow
        skipped = [n for n in range(len(samples)) if n not in admitted and self.shown[n]]
        return [(n, self.shown[n][-1]) for n in skipped if (samples[n][0], self.shown[n][-1]) not in taught]

    def _shallow_loss(self, user: int, position: int, place: int) -> torch.Tensor:
        """The branches that `filtered` does not name are constants, those of the layers before included."""
        inputs, model, depth = self.world.inputs(user, position), self.model, self.config.filtered
        x = model.embed(inputs[: len(inputs) - (position - place)][None])
        *below, last = model.blocks
        stream = x
        for block in [*below, last]:
            stream = stream + block.ttt(block.ttt_norm(stream)).detach()
            branch = block.mlp(block.mlp_norm(stream))
            stream = stream + (branch if block is last and depth == "mlp" else branch.detach())
        hidden = model.output_norm(stream)[0, -1]
        scores = (hidden.detach() if depth == "output" else hidden) @ model.items.weight[1:].T
        return F.cross_entropy(scores, torch.tensor(self.world.target(user, place)))

    def _verdicts(self, scores: np.ndarray, seen: np.ndarray, samples: list[tuple[int, int]]) -> list[str]:
        if self.config.criterion == "loss" and self.config.gate == "eta":
            return self._by_loss(seen, samples)
        if self.config.gate == "eta":
            return self.gate.judge(scores, seen)
        drawn = self.chance.random(len(seen)) if self.config.gate == "random" else np.ones(len(seen))
        unlucky = drawn < self.config.random_rate
        return ["nothing_to_learn" if s else "chance" if u else "admitted" for s, u in zip(seen, unlucky, strict=True)]

    @torch.no_grad()
    def _by_loss(self, seen: np.ndarray, samples: list[tuple[int, int]]) -> list[str]:
        """A transition counts with the loss at which its sample was served, or that of when it was first offered.

        The variants leave the test of redundancy open.
        """
        losses = np.full(len(samples), np.nan)
        for n, (user, position) in enumerate(samples):
            for place in self.shown[n]:
                if (user, place) not in self.surprise:
                    self.surprise[user, place] = self._loss_of_transition(user, position, place).item()
            if self.shown[n]:
                counted = self.shown[n] if self.config.correction == "none" else self.shown[n][-1:]
                losses[n] = np.mean([self.surprise[user, place] for place in counted])
        if self.config.calibrate == "each_batch" or self.bound is None:
            self.bound = None if seen.all() else np.quantile(losses[~seen], self.config.entropy_quantile)
        below = (losses < self.bound) if self.bound is not None else ~seen
        if self.config.admit == "uncertain":
            below = ~below
        return ["nothing_to_learn" if s else "admitted" if ok else "loss" for s, ok in zip(seen, below, strict=True)]

    def _weight(self, n: int) -> float:
        return self.gate.weights[n] if self.config.gate == "eta" and self.config.weighting != "none" else 1.0

    def _losses(self, n: int, samples: list[tuple[int, int]], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        if self.config.objective == "next_item":
            return [self._loss_of_transition(*samples[n], place) for place in self.shown[n]]
        scores = scores_of(self.model, inputs[n])
        top = scores.topk(self.config.top_k or len(scores)).values
        return [torch.distributions.Categorical(logits=top).entropy()]

    def _loss_of_transition(self, user: int, position: int, place: int) -> torch.Tensor:
        """From the items of the sample's own input that stand before it."""
        inputs = self.world.inputs(user, position)
        before = inputs[: len(inputs) - (position - place)]
        target = torch.tensor(self.world.target(user, place))
        vectors = self.model.items.weight[1:]
        if (user, place) in self.shallow:
            vectors = vectors.detach()
        scores = self.model(before[None])[0, -1] @ vectors.T
        if self.config.correction == "selection" and self.bound is not None:
            below = -scores.detach().log_softmax(0) < self.bound
            selected = below if self.config.admit == "confident" else ~below
            selected[target] = True
            scores = scores.masked_fill(~selected, -torch.inf)
        return F.cross_entropy(scores, target)
