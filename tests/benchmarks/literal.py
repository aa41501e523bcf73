"""The literal baseline: training and trials written straight from the papers, in plain torch and plain loops.

Each prefix is a sequence of its own, padded on the right to the maximum length. Scores are one matrix of a batch and
all items. The gate judges one sample after another. Samples that adapt are forwarded a second time, with gradients.
Nothing here calls etarec's model, scoring, gate or adapters: it takes weights by name and must give the same numbers.

Symbols: N sequences, L positions, D width, H heads, F head width, M mini-batch, B samples, V items without padding.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec.config import AdaptConfig, ModelConfig
from etarec.data import Interactions, Stream

SEED = 0  # of a trial
Weights = dict[str, Tensor]


def hidden(
    weights: Weights,
    config: ModelConfig,
    items: Tensor,
    lengths: Tensor,
    inner_loop: bool = True,
    constant_branches: bool = False,
) -> Tensor:
    """Hidden state at the last item of each sequence: items int[N, L], lengths int[N] -> [N, D].

    constant_branches: the gradient goes back along the residual stream alone.
    """
    x = F.embedding(items, weights["items.weight"], padding_idx=0)
    x = F.layer_norm(x, x.shape[-1:], weights["input_norm.weight"], weights["input_norm.bias"], 1e-12)
    for number in range(config.blocks):
        block = {name: weights[f"blocks.{number}.{name}"] for name in _block_names(weights)}
        mixed = ttt(block, config, _rms(x, block["ttt_norm.weight"]), inner_loop)
        x = x + (mixed.detach() if constant_branches else mixed)
        normed = _rms(x, block["mlp_norm.weight"])
        gated = F.silu(normed @ block["mlp.gate.weight"].T) * (normed @ block["mlp.up.weight"].T)
        fed = gated @ block["mlp.down.weight"].T
        x = x + (fed.detach() if constant_branches else fed)
    last = (lengths - 1)[:, None, None].expand(-1, 1, x.shape[-1])
    return _rms(x, weights["output_norm.weight"]).gather(1, last)[:, 0]


def _block_names(weights: Weights) -> Iterable[str]:
    return [name.removeprefix("blocks.0.") for name in weights if name.startswith("blocks.0.")]


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, 1e-6)


def ttt(w: Weights, config: ModelConfig, x: Tensor, inner_loop: bool) -> Tensor:
    """The TTT-MLP layer (arXiv 2407.04620) in its dual form, one mini-batch after another. [N, L, D] -> [N, L, D]."""
    N, L, D = x.shape
    H, M = config.heads, config.mini_batch

    def heads(name: str) -> Tensor:
        return (x @ w[f"ttt.{name}.weight"].T).view(N, L, H, D // H).transpose(1, 2)

    q, k, v = _rotary(heads("q"), config), _rotary(heads("k"), config), heads("v")
    rate = torch.sigmoid(x @ w["ttt.rate.weight"].T + w["ttt.rate.bias"]).transpose(1, 2)
    rate = rate * config.inner_rate / (D // H)
    decay = torch.clamp(1 / torch.arange(1, M + 1, device=x.device) + w["ttt.decay_offset"], min=0)
    W1, W2 = (w[f"ttt.fast_weights.{n}"].expand(N, -1, -1, -1) for n in (0, 1))
    b1, b2 = (w[f"ttt.fast_biases.{n}"].expand(N, -1, -1, -1) for n in (0, 1))
    outputs = []
    for start in range(0, L, M):
        here = slice(start, start + M)
        Q, K, V = q[:, :, here], k[:, :, here], v[:, :, here]
        if not inner_loop:
            outputs.append(Q + _inner_norm(_gelu(Q @ W1 + b1) @ W2 + b2, w))
            continue
        Z1 = K @ W1 + b1
        X2 = _gelu(Z1)
        grad2 = _norm_loss_gradient(X2 @ W2 + b2, V - K, w)
        grad1 = (grad2 @ W2.transpose(-1, -2)) * _gelu_derivative(Z1)
        eta = torch.tril(decay[: K.shape[2], None] * rate[:, :, None, here])
        Z1_bar = Q @ W1 + b1 - (eta * (Q @ K.transpose(-1, -2))) @ grad1 - eta @ grad1
        X2_bar = _gelu(Z1_bar)
        Z2_bar = X2_bar @ W2 + b2 - (eta * (X2_bar @ X2.transpose(-1, -2))) @ grad2 - eta @ grad2
        outputs.append(Q + _inner_norm(Z2_bar, w))
        last = eta[:, :, -1, :, None]
        W1, b1 = W1 - (last * K).transpose(-1, -2) @ grad1, b1 - (last * grad1).sum(2, keepdim=True)
        W2, b2 = W2 - (last * X2).transpose(-1, -2) @ grad2, b2 - (last * grad2).sum(2, keepdim=True)
    out = torch.cat(outputs, dim=2).transpose(1, 2).reshape(N, L, D)
    out = F.layer_norm(out, (D,), w["ttt.post_norm.weight"], w["ttt.post_norm.bias"], 1e-6)
    return out @ w["ttt.o.weight"].T


def _rotary(x: Tensor, config: ModelConfig) -> Tensor:
    L, width = x.shape[-2:]
    frequency = config.rope_base ** (-torch.arange(0, width, 2, device=x.device) / width)
    angle = (torch.arange(L, device=x.device) % config.mini_batch)[:, None] * frequency.repeat(2)
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_derivative(x: Tensor) -> Tensor:
    t = torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))
    return 0.5 * x * ((1 - t * t) * (0.79788456 + 0.1070322243 * x * x)) + 0.5 * (1 + t)


def _inner_norm(x: Tensor, w: Weights) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * w["ttt.inner_norm_weight"] + w["ttt.inner_norm_bias"]


def _norm_loss_gradient(z: Tensor, target: Tensor, w: Weights) -> Tensor:
    """Gradient of 1/2 || LN(z) - target ||^2 with respect to z."""
    std = torch.sqrt(z.var(-1, keepdim=True, unbiased=False) + 1e-6)
    unit = (z - z.mean(-1, keepdim=True)) / std
    grad = (unit * w["ttt.inner_norm_weight"] + w["ttt.inner_norm_bias"] - target) * w["ttt.inner_norm_weight"]
    return (grad - grad.mean(-1, keepdim=True) - unit * (grad * unit).mean(-1, keepdim=True)) / std


class Samples(NamedTuple):
    """inputs: int[B, max_length] padded on the right; lengths: int[B]; targets: int[B], rows of the V items."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor


def prefixes(data: Interactions, ranges: Iterable[tuple[int, int]]) -> Samples:
    """An input for each range [start, end) of the items; the target is the next item."""
    bounds = np.array(list(ranges), np.int64).reshape(-1, 2)
    inputs = np.zeros((len(bounds), data.max_length), np.int64)
    for row, (start, end) in enumerate(bounds):
        inputs[row, : end - start] = data.items[start:end]
    targets = data.items[bounds[:, 1]].astype(np.int64) - 1
    return Samples(torch.from_numpy(inputs), torch.from_numpy(bounds[:, 1] - bounds[:, 0]), torch.from_numpy(targets))


def train_step(weights: Weights, config: ModelConfig, samples: Samples, optimizer: torch.optim.Optimizer) -> float:
    """Takes a step; returns the mean cross-entropy over all items before it."""
    scores = hidden(weights, config, samples.inputs, samples.lengths) @ weights["items.weight"][1:].T
    loss = F.cross_entropy(scores, samples.targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class Gate:
    """The gate as docs/method.md defines it, sample by sample, with a softmax over all items."""

    def __init__(self, config: AdaptConfig):
        self.config = config
        self.threshold: float | None = None
        self.average: Tensor | None = None
        self.chance = np.random.default_rng(0)

    def judge(self, scores: Tensor, targets: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """scores: [B, V] -> admitted bool[B] and weights [B]."""
        if self.config.gate == "open":
            return ~excluded, torch.ones(len(scores))
        if self.config.gate == "random":
            unlucky = torch.tensor([draw < self.config.random_rate for draw in self.chance.random(len(scores))])
            return ~excluded & ~unlucky, torch.ones(len(scores))
        if self.config.criterion == "loss":
            losses = torch.stack([-z.log_softmax(0)[target] for z, target in zip(scores, targets, strict=True)])
            self.threshold = float(torch.quantile(losses[~excluded].double(), self.config.entropy_quantile))
            return ~excluded & (losses < self.threshold), torch.ones(len(scores))
        softmaxes = [z.softmax(0) for z in scores]
        entropies = torch.stack([self._entropy(z) for z in scores])
        if self.threshold is None:
            self.threshold = float(torch.quantile(entropies.double(), self.config.entropy_quantile))
        average = None if self.average is None else self._restricted(self.average)
        admitted = torch.zeros(len(scores), dtype=torch.bool)
        for n, p in enumerate(softmaxes):
            if excluded[n] or entropies[n] >= self.threshold:
                continue
            if average is None:
                admitted[n] = True
            else:
                cosine = F.cosine_similarity(self._restricted(p), average, dim=0)
                admitted[n] = cosine < self.config.cosine_threshold
        if admitted.any():
            mean = torch.stack([p for p, chosen in zip(softmaxes, admitted, strict=True) if chosen]).mean(0)
            self.average = mean if self.average is None else 0.9 * self.average + 0.1 * mean
        return admitted, torch.exp(self.threshold - entropies)

    def _entropy(self, z: Tensor) -> Tensor:
        log_p = z.topk(self.config.top_k).values.log_softmax(0)
        return -(log_p.exp() * log_p).sum()

    def _restricted(self, p: Tensor) -> Tensor:
        top = p.topk(self.config.top_k)
        return torch.zeros_like(p).scatter(0, top.indices, top.values)


class Outcome(NamedTuple):
    ranks: np.ndarray
    admitted: np.ndarray


def trial(weights: Weights, model: ModelConfig, data: Interactions, stream: Stream, config: AdaptConfig) -> Outcome:
    """One configuration on a stream in an order that serves a user's samples in turn; changes the weights.

    Targets none, weights (next_item, last transition, serve before, Adam, all parameters) and state (unweighted).
    """
    run, served = _Trial(weights, model, data, config), []
    for begin in range(0, len(stream), config.batch_size):
        batch = slice(begin, begin + config.batch_size)
        served.append(run.serve(stream.users[batch], stream.positions[batch]))
    ranks, admitted = (torch.cat(column).numpy() for column in zip(*served, strict=True))
    return Outcome(ranks, admitted)


class _Trial:
    def __init__(self, weights: Weights, model: ModelConfig, data: Interactions, config: AdaptConfig):
        assert config.gate != "eta" or (config.admit == "confident" and config.top_k)
        assert config.criterion == "entropy" or config.cosine_threshold is None
        assert config.filtered in ("nothing", "residual")
        assert config.min_admitted == 0 and config.average_over == "admitted" and config.entropy_threshold is None
        self.weights, self.model, self.data, self.config = weights, model, data, config
        self.gate = Gate(config)
        self.optimizer = torch.optim.Adam(weights.values(), config.learning_rate, (config.momentum, 0.999))
        self.drawn = np.random.default_rng([SEED, 1])  # the product's stream of draws, so that both draw the same items

    def serve(self, users: np.ndarray, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Ranks int[B] and admitted bool[B] of a batch."""
        ends = self.data.offsets[users] + positions
        starts = np.maximum(self.data.offsets[users], ends - self.data.max_length)
        samples = prefixes(self.data, zip(starts, ends, strict=True))
        with torch.no_grad():
            scores = self._scores(samples, inner_loop=self.config.target != "state")
            ranks = _ranks(scores, samples.targets)
            if self.config.target == "none":
                return ranks, torch.zeros(len(ranks), dtype=torch.bool)
            excluded = torch.from_numpy(self._without_loss(users, positions, ends - starts))
            admitted, factors = self.gate.judge(scores, samples.targets, excluded)
        chosen = admitted.numpy()
        if self.config.target == "weights":
            newest = ends - (self.config.feedback == "next_request")
            skipped = (~admitted & ~excluded).numpy() & (self.config.filtered != "nothing")
            groups = [prefixes(self.data, zip(starts[some], newest[some], strict=True)) for some in (chosen, skipped)]
            self._learn(*groups, factors[admitted])
        elif chosen.any():
            ranks[admitted] = self._ranks_with_inner_loop(Samples(*(column[admitted] for column in samples)))
        return ranks, admitted

    def _scores(self, samples: Samples, inner_loop: bool = True) -> Tensor:
        last = hidden(self.weights, self.model, samples.inputs, samples.lengths, inner_loop)
        return last @ self.weights["items.weight"][1:].T

    def _without_loss(self, users: np.ndarray, positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Samples whose last transition `next_item` may not learn: there is none, or training saw it."""
        if self.config.target == "state":
            return np.zeros(len(users), bool)
        behind = self.config.feedback == "immediate"
        trained = positions - 1 + behind <= self.data.train_end[users]
        return (lengths + behind < 2) | (trained & self.config.new_transitions_only)

    def _learn(self, admitted: Samples, skipped: Samples, factors: Tensor) -> None:
        """A step over admitted samples and, by shallow steps, skipped ones."""
        if not len(admitted.targets) + len(skipped.targets):
            return
        scores = self._scores(admitted)
        if self.config.correction == "selection":
            scores = torch.stack(
                [self._selected(z, target) for z, target in zip(scores, admitted.targets, strict=True)]
            )
        losses = [F.cross_entropy(scores, admitted.targets, reduction="none") * factors]
        if len(skipped.targets):
            last = hidden(self.weights, self.model, skipped.inputs, skipped.lengths, constant_branches=True)
            losses.append(self._shallow_losses(last, skipped.targets))
        self.optimizer.zero_grad()
        torch.cat(losses).mean().backward()
        self.optimizer.step()

    def _shallow_losses(self, last: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over all items, or with the normaliser estimated from drawn ones."""
        vectors = self.weights["items.weight"][1:]
        if self.config.shallow_negatives is None:
            return F.cross_entropy(last @ vectors.T, targets, reduction="none")
        size = min(self.config.shallow_negatives, len(vectors))
        drawn = torch.from_numpy(self.drawn.choice(len(vectors), size, replace=False))
        others, own = (last @ vectors[drawn].T).exp(), (last * vectors[targets]).sum(1)
        is_target = drawn == targets[:, None]
        mean = others.masked_fill(is_target, 0).sum(1) / (~is_target).sum(1)
        return (own.exp() + (len(vectors) - 1) * mean).log() - own

    def _selected(self, z: Tensor, target: Tensor) -> Tensor:
        """The scores of the items that a gate by loss would admit, and of the target."""
        admissible = -z.detach().log_softmax(0) < self.gate.threshold
        admissible[target] = True
        return z.masked_fill(~admissible, -torch.inf)

    @torch.no_grad()
    def _ranks_with_inner_loop(self, samples: Samples) -> Tensor:
        return _ranks(self._scores(samples), samples.targets)


def _ranks(scores: Tensor, targets: Tensor) -> Tensor:
    own = scores.gather(1, targets[:, None])
    return (scores >= own).sum(1) - 1
