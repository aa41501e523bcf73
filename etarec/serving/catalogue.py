"""The items that a recommender knows, by token, by code and by popularity.

Symbols: V items without the padding id.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from etarec.data import Int32s


class Recommendation(NamedTuple):
    """Items by descending score, at most as many as asked for.

    scores: the model's logits; with `by` popularity, for a user without a known item, shares of the interactions.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    by: Literal["model", "popularity"]


class Catalogue:
    """V items. docs/serving.md has its size.

    vocabulary: [V], tokens in the order of the codes 1 to V; items: codes of the interactions so far.
    """

    def __init__(self, vocabulary: pa.LargeStringArray, items: Int32s):
        self.tokens: list[str] = vocabulary.to_pylist()
        self.codes = {token: code for code, token in enumerate(self.tokens, 1)}
        self.counts = np.bincount(items, minlength=len(self.tokens) + 1)[1:].astype(np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def known(self, tokens: Iterable[str]) -> list[int]:
        """The codes of the known ones among some tokens."""
        return [self.codes[token] for token in tokens if token in self.codes]

    def count(self, code: int) -> None:
        """Count an interaction."""
        self.counts[code - 1] += 1

    def popular(self, k: int) -> Recommendation:
        """The k items with most interactions, none where there are no interactions."""
        total = int(self.counts.sum())
        if not total:
            return Recommendation((), (), "popularity")
        rows = np.argsort(-self.counts, kind="stable")[:k]
        items = tuple(self.tokens[row] for row in rows)
        return Recommendation(items, tuple((self.counts[rows] / total).tolist()), "popularity")

    def best(self, rows: Sequence[int], scores: Sequence[float], k: int, left_out: Collection[int]) -> Recommendation:
        """The first k items among rows of the item vectors, by descending score. left_out: codes."""
        kept = [(self.tokens[row], float(s)) for row, s in zip(rows, scores, strict=False) if row + 1 not in left_out]
        items, values = tuple(item for item, _ in kept[:k]), tuple(score for _, score in kept[:k])
        return Recommendation(items, values, "model")
