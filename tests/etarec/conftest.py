"""A small log, a small checkpoint and a literal gate for the tests of etarec."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
import torch

from etarec import score_blocks, split
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.data import Interactions
from etarec.kernels import build as c_build
from etarec.kernels import reductions, scores
from etarec.models import build

N_ITEMS = 71  # with padding; above 50, so that a constant model has an HR of 0 at every cutoff


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["one block", "blocks of rows", "chunks of items"])
def form_of_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way through the scores, for every test; chunks are 1024 items wide, so 2,500 items are three of them."""
    if request.param != "one block":
        monkeypatch.setitem(score_blocks.BLOCK, "cpu", 1000)
    if request.param == "chunks of items":
        monkeypatch.setattr(score_blocks, "MAX_ITEMS_OF_ROWS", 5)
        monkeypatch.setattr(scores, "MAX_ITEMS", 5)
    return request.param


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=32)


@pytest.fixture(scope="session")
def log() -> Interactions:
    """28 users with 2 to 30 items each, mostly neighbours on a ring; inputs have at most 9 items."""
    rng = np.random.default_rng(5)
    lengths = np.concatenate([[2, 3, 30], rng.integers(4, 22, 25)])
    sizes = [split.ratio_sizes(int(length) - 1, Fraction(1, 5), Fraction(1, 2)) for length in lengths]
    walks = [rng.integers(N_ITEMS - 1) + np.cumsum(rng.choice([1, 1, 2, 17], length)) for length in lengths]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=(np.concatenate(walks) % (N_ITEMS - 1) + 1).astype(np.int32),
        train_end=np.array([size[0] for size in sizes], np.int32),
        valid_end=np.array([size[0] + size[1] for size in sizes], np.int32),
        timestamps=None,
        max_length=9,
        vocabulary=pa.array([f"item {n}" for n in range(1, N_ITEMS)], pa.large_string()),
        sha256="of the log",
    )


@pytest.fixture(scope="session")
def frozen(log: Interactions, model_config: ModelConfig) -> Checkpoint:
    """A checkpoint in which every weight is far from its initial value, so that every weight matters. Always the same.

    With another seed a test may fail without a defect: without the inner loop, samples with the same last item have
    equal entropies, and if E0 falls among these, rounding decides.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(model_config, log.n_items)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1 if "norm" in name else 0.35)
        model.items.weight[0] = 0
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Checkpoint(
        model_config, TrainConfig(), weights, log.vocabulary, log.sha256, epochs=3, valid={"hr_at_10": 0.5}
    )


@dataclass
class LiteralGate:
    """The gate by its definition: one sample after another, dense softmaxes, double precision."""

    config: AdaptConfig
    threshold: float | None = None
    average: np.ndarray | None = None
    weights: list[float] = field(default_factory=list)

    def judge(self, scores: np.ndarray, seen: np.ndarray) -> list[str]:
        """For each row of `scores` [B, V]: `admitted`, or the reason for filtering the sample."""
        n_items = scores.shape[1]
        top_k = min(self.config.top_k or n_items, n_items)
        probabilities = [self._softmax(z) for z in scores]
        entropies = [self._entropy(np.sort(z)[-top_k:]) for z in scores]
        if self.config.entropy_threshold is not None:
            self.threshold = self.config.entropy_threshold
        elif self.threshold is None:
            self.threshold = float(np.quantile(entropies, self.config.entropy_quantile))
        sign = 1 if self.config.admit == "confident" else -1
        order = [sign * entropy for entropy in entropies]
        verdicts = []
        for entropy, was_seen in zip(entropies, seen, strict=True):
            low = entropy < self.threshold
            reliable = "admitted" if low == (self.config.admit == "confident") else "entropy"
            verdicts.append("nothing_to_learn" if was_seen else reliable)
        each = self.config.refill == "each_test"
        if each:
            self._fill_up(verdicts, order, ["entropy"])
        few = verdicts.count("admitted") <= math.ceil(self.config.min_admitted * len(verdicts))
        epsilon = math.inf if self.config.cosine_threshold is None else self.config.cosine_threshold
        if self.average is not None and not (each and few):
            cosines = [self._cosine(p, self.average, top_k) for p in probabilities]
            for n, verdict in enumerate(verdicts):
                if verdict == "admitted" and cosines[n] >= epsilon:
                    verdicts[n] = "redundancy"
            if each:
                self._fill_up(verdicts, cosines, ["redundancy"])
        if not each:
            self._fill_up(verdicts, order, ["entropy", "redundancy"])
        members = [p for p, v in zip(probabilities, verdicts, strict=True) if self._counts(v)]
        if members:
            mean = np.mean(members, axis=0)
            self.average = mean if self.average is None else 0.9 * self.average + 0.1 * mean
        self.weights = self._weights(verdicts, entropies)
        return verdicts

    def _weights(self, verdicts: list[str], entropies: list[float]) -> list[float]:
        away = [self.threshold - entropy for entropy in entropies]
        if self.config.weighting == "none":
            return [1.0] * len(away)
        if self.config.weighting == "entropy":
            return [math.exp(each) for each in away]
        clamped = [math.exp(max(-2.0, min(2.0, each))) for each in away]
        admitted = [weight for weight, verdict in zip(clamped, verdicts, strict=True) if verdict == "admitted"]
        return [weight / float(np.mean(admitted)) if admitted else weight for weight in clamped]

    def _fill_up(self, verdicts: list[str], order: list[float], refillable: list[str]) -> None:
        """Admit the first of the other samples until the share `min_admitted` of the batch is admitted."""
        while verdicts.count("admitted") < self.config.min_admitted * len(verdicts):
            others = [n for n, verdict in enumerate(verdicts) if verdict in refillable]
            if not others:
                return
            verdicts[min(others, key=lambda n: order[n])] = "admitted"

    def _counts(self, verdict: str) -> bool:
        return verdict == "admitted" or self.config.average_over == "all"

    @staticmethod
    def _softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max())
        return e / e.sum()

    @classmethod
    def _entropy(cls, z: np.ndarray) -> float:
        p = cls._softmax(z)
        return float(-sum(x * np.log(x) for x in p))

    @staticmethod
    def _cosine(p: np.ndarray, m: np.ndarray, top_k: int) -> float:
        restricted = []
        for x in (p, m):
            kept = np.zeros_like(x)
            top = np.argsort(x)[-top_k:]
            kept[top] = x[top]
            restricted.append(kept / np.sqrt((kept**2).sum()))
        return float(restricted[0] @ restricted[1])


@pytest.fixture(scope="session")
def literal_gate() -> type[LiteralGate]:
    return LiteralGate


@pytest.fixture(params=["C", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms of the reductions of a block of scores: reductions.c and torch."""
    monkeypatch.setattr(scores, "takes", lambda *_: False)
    if request.param == "torch":
        monkeypatch.setattr(reductions, "takes", lambda *_: False)
    elif c_build.compiler() is None:
        pytest.skip("needs a C compiler")
    else:
        assert reductions.takes(torch.empty(1, 1))
