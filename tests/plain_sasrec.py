"""A SASRec of the user's own code, with the names and the arithmetic of RecBole's, trained without this project."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.data import Interactions

EPS = 1e-12


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        weights = (q @ k.mT / math.sqrt(q.shape[-1]) + mask).softmax(-1)
        return self.LayerNorm(self.dense((weights @ v).transpose(1, 2).flatten(2)) + x)


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.dense_1, self.dense_2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dense_2(F.gelu(self.dense_1(x))) + x)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.multi_head_attention, self.feed_forward = Attention(width, heads), FeedForward(width, inner)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.feed_forward(self.multi_head_attention(x, mask))


class Encoder(nn.Module):
    def __init__(self, layers: list[Layer]):
        super().__init__()
        self.layer = nn.ModuleList(layers)


class PlainSASRec(nn.Module):
    def __init__(self, n_items: int, positions: int, width: int = 16, heads: int = 2, inner: int = 32):
        super().__init__()
        self.item_embedding = nn.Embedding(n_items, width, padding_idx=0)
        self.position_embedding = nn.Embedding(positions, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)
        self.trm_encoder = Encoder([Layer(width, heads, inner)])

    def forward(self, items: Tensor) -> Tensor:
        """States [N, L, D] of items int[N, L]."""
        L = items.shape[1]
        x = self.LayerNorm(self.item_embedding(items) + self.position_embedding.weight[:L])
        mask = torch.full((L, L), -10_000.0).triu(1)
        for layer in self.trm_encoder.layer:
            x = layer(x, mask)
        return x


def train(model: PlainSASRec, log: Interactions, row_of: dict[str, int], epochs: int = 1) -> None:
    """Next-item training on the training split, with this numbering of the items."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    rows = torch.tensor([0, *(row_of[token] for token in log.vocabulary.to_pylist())])
    for _ in range(epochs):
        for batch in _batches(log, rows):
            scores = model(batch[:, :-1]) @ model.item_embedding.weight.T
            F.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=0).backward()
            optimizer.step()
            optimizer.zero_grad()


def _batches(log: Interactions, rows: Tensor, size: int = 128) -> Iterator[Tensor]:
    spans = [(start, start + int(end) + 1) for start, end in zip(log.offsets[:-1], log.train_end, strict=True) if end]
    for first in range(0, len(spans), size):
        parts = [
            rows[torch.from_numpy(log.items[max(b - log.max_length, a) : b].astype(np.int64))]
            for a, b in spans[first : first + size]
        ]
        yield nn.utils.rnn.pad_sequence(parts, batch_first=True)
