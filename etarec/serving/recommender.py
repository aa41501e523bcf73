"""Recommends by an adapter of `etarec.adapt`, and lets it learn from observations in batches of `adapt.batch_size`.

An observation is a sample of `etarec.data`: the item is its target, the user's history before it is its input. Samples
wait until their batch is complete. Then the adapter serves the batch as in a measurement: it ranks the items, the gate
decides, the model learns. Recommending changes nothing. Where a configuration adapts before it ranks (target `state`,
or `serve: after`), the users of one call are ranked as a batch of their own, and the change is taken back.

Unknown items are counted and left out. A user's first known item begins a history; only later ones are samples.

Symbols: B samples of a batch, V items without the padding id.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import adapt, scoring
from etarec.checkpoint import Checkpoint
from etarec.clock import Clock
from etarec.config import AdaptConfig, Reason, UserError
from etarec.data import Interactions, Stream
from etarec.device import default_device
from etarec.encode import Encoder
from etarec.gate import Decision
from etarec.serving.catalogue import Catalogue, Recommendation
from etarec.serving.guard import Guard, ranks_of
from etarec.serving.histories import Batch, History, Sample, Users, first_history, flat

logger = logging.getLogger("etarec.serving")
NO_SAMPLES = Stream(np.empty(0, np.int32), np.empty(0, np.int32))
MAX_USERS = 1_000_000
PARTS = ("forward", "gate", "adapt")


class Learned(NamedTuple):
    """A batch that the adapter served: samples in the order of their observations.

    ranks: int[B], from 0, of the observed items among all; reasons: int8[B], values of `Reason`.
    """

    ranks: npt.NDArray[np.int32]
    reasons: npt.NDArray[np.int8]


class Told(NamedTuple):
    """The fate of observations: the numbers `taken` and `unknown`, and the batches that they completed."""

    taken: int
    unknown: int
    batches: tuple[Learned, ...]


class Recommender:
    """A checkpoint, a configuration, the users' histories, and the adapter's state.

    A call takes passes over the last `max_length` items of its users and one product with all items, however many users
    there are. docs/serving.md has the memory.

    Args:
        checkpoint: with which it begins.
        config: of the adaptation.
        data: the log of `users`, of which Fisher's information and popularity are computed; maybe without users.
        users: tokens of the log's users.
        seed: of a gate at random, dropout and drawn items.
        guard: None for a model that never goes back.
        max_users: histories to keep.

    Raises UserError if the model cannot adapt as configured.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: AdaptConfig,
        data: Interactions,
        users: Sequence[str] = (),
        seed: int = 0,
        guard: Guard | None = None,
        max_users: int = MAX_USERS,
    ):
        self.checkpoint, self.config, self.seed = checkpoint, config, seed
        self.device, self.max_length = default_device(), data.max_length
        self.model = checkpoint.restore(self.device)
        self.clock = Clock(self.device)
        self.adapter = adapt.build(config, self.model, Encoder(data, self.device), NO_SAMPLES, self.clock, seed)
        self.catalogue = Catalogue(checkpoint.vocabulary, data.items)
        self.users = Users.of(data, users, self.adapter.marks(), max_users)
        self.waiting: list[Sample] = []
        self.counts: Counter[str] = Counter()
        self.seconds = dict.fromkeys(PARTS, 0.0)
        adapts = config.target == "weights"
        self.guard = guard if adapts else None
        self.frozen = checkpoint.restore(self.device).eval() if self.guard else None
        self._first = self.adapter.snapshot() if adapts else None

    def recommend(
        self, users: Sequence[str | Sequence[str]], k: int = 10, *, leave_out_seen: bool = False
    ) -> list[Recommendation]:
        """The k best items for each user.

        Args:
            users: an id, or the items of a history, oldest first; of both, the last `max_length` known items count. A
                user without any gets the most popular items, or none if the recommender was made without a log.
            k: number of items.
            leave_out_seen: recommend none of the items that count.
        """
        if k < 1:
            raise UserError(f"k: given {k}, expected at least 1")
        histories = [self._history(user, n) for n, user in enumerate(users)]
        known = [n for n, history in enumerate(histories) if len(history.items)]
        found = [self.catalogue.popular(k) if len(known) < len(users) else Recommendation((), (), "model")] * len(users)
        if known:
            seen = [set(histories[n].items[-self.max_length :].tolist() if leave_out_seen else ()) for n in known]
            scores, items = self._top([histories[n] for n in known], k + max(map(len, seen)))
            for n, own, row_scores, row_items in zip(known, seen, scores.tolist(), items.tolist(), strict=True):
                found[n] = self.catalogue.best(row_items, row_scores, k, own)
        self.counts["recommendations"] += len(users)
        return found

    def observe(self, users: Sequence[str], items: Sequence[str]) -> Told:
        """Tell that users took items, in this order. Each batch that this completes is learned.

        Raises UserError if there are not as many items as users.
        """
        check_pairs(users, items)
        codes = self.catalogue.codes
        known = [(user, codes[item]) for user, item in zip(users, items, strict=True) if item in codes]
        self.counts["observations"] += len(known)
        self.counts["unknown_items"] += len(users) - len(known)
        return Told(len(known), len(users) - len(known), tuple(self._take(known)))

    def flush(self) -> Told:
        """Learn what waits, as a smaller batch."""
        return Told(0, 0, (self._learn(),) if self.waiting else ())

    def go_back(self, reason: str) -> None:
        """Continue from the checkpoint's weights with a fresh optimizer and gate; histories and counts stay."""
        if self._first is None:
            return
        values = self._first.values | {"learned": dataclasses.asdict(self.adapter.learned)}
        self.adapter.restore(self._first._replace(values=values))
        self.counts["fallbacks"] += 1
        if self.guard:
            self.guard.forget()
        logger.warning("the model went back to its checkpoint: %s", reason)

    def costs(self) -> dict[str, float]:
        """The result columns COSTS of `etarec.metrics` over all samples so far, of which there must be one."""
        return self.adapter.learned.costs(self.model, self.config, self.counts["samples"])

    def _take(self, observed: Sequence[tuple[str, int]]) -> Iterator[Learned]:
        for user, item in observed:
            self.catalogue.count(item)
            sample = self.users.append(user, item)
            if sample is not None:
                self.waiting.append(sample)
            if len(self.waiting) == self.config.batch_size:
                yield self._learn()

    def _learn(self) -> Learned:
        batch = flat(self.waiting, self.checkpoint.vocabulary, self.max_length, open_end=False)
        frozen = None if self.frozen is None else ranks_of(self.frozen, batch, self.device)
        ranks, decision = self._serve(batch)
        learned = Learned(_numpy(ranks, np.int32), _numpy(decision.reasons, np.int8))
        batch.put_back(self.adapter.marks(), self.max_length)
        self.waiting = []
        self._count(learned)
        self.seconds = {part: self.clock.seconds(part) for part in PARTS}  # a GPU's clock keeps events until asked
        self._check(learned, frozen)
        return learned

    def _serve(self, batch: Batch) -> tuple[Tensor, Decision]:
        self._follow(batch)
        return self.adapter.serve(slice(0, len(batch.stream)))

    def _follow(self, batch: Batch) -> None:
        self.adapter.follow(Encoder(batch.data, self.device), batch.stream, batch.marks)

    def _count(self, learned: Learned) -> None:
        self.counts["samples"] += len(learned.ranks)
        self.counts["batches"] += 1
        self.counts["hits_at_10"] += int((learned.ranks < 10).sum())
        reasons, counts = np.unique(learned.reasons, return_counts=True)
        self.counts.update({Reason(r).name.lower(): int(n) for r, n in zip(reasons, counts, strict=True)})

    def _check(self, learned: Learned, frozen: npt.NDArray[np.integer] | None) -> None:
        """Go back to the checkpoint where the guard or a weight that is not finite demands it."""
        if self.guard is None or frozen is None:
            return
        self.guard.record(learned.ranks, frozen)
        finite = bool(torch.stack([weight.sum() for weight in self.model.parameters()]).isfinite().all())
        reason = self.guard.verdict() if finite else "a weight was no longer a finite number"
        if reason:
            self.go_back(reason)

    def _history(self, user: str | Sequence[str], n: int) -> History:
        """The history of user n of a call. Several users of one call keep their order among themselves."""
        if isinstance(user, str):
            return self.users.by_token.get(user) or first_history(0)
        history = first_history(self.users.next_code + n)
        for code in self.catalogue.known(user)[-self.max_length :]:
            history.append(code)
        return history

    def _top(self, histories: Sequence[History], count: int) -> tuple[Tensor, Tensor]:
        """The largest scores of each history, [B, count], and their items, rows of the item vectors."""
        samples = [Sample(history, len(history.items)) for history in histories]
        batch = flat(samples, self.checkpoint.vocabulary, self.max_length, open_end=True)
        count = min(count, len(self.catalogue))
        if self.config.target == "state" or (self.config.target == "weights" and self.config.serve == "after"):
            return self._top_after_adapting(batch, count)
        self._follow(batch)
        with torch.no_grad():
            return self._scan(self.adapter.hidden(slice(0, len(samples))), count)

    def _top_after_adapting(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        before, tops = self.adapter.snapshot(), []
        silent, self.adapter.show = self.adapter.show, lambda hidden: tops.append(self._scan(hidden, count))
        try:
            self._serve(batch)
        finally:
            self.adapter.show = silent
            self.adapter.restore(before)
        return tops[-1]

    def _scan(self, hidden: Tensor, count: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            scan = scoring.scan(hidden, self.model.item_vectors, None, count)
        assert scan.top_scores is not None and scan.top_items is not None
        return scan.top_scores, scan.top_items


def check_pairs(users: Sequence[str], items: Sequence[str]) -> None:
    """Raise UserError if there are not as many items as users."""
    if len(users) != len(items):
        raise UserError(f"observe: given {len(users)} users and {len(items)} items, expected pairs")


def _numpy(tensor: Tensor, kind: type) -> npt.NDArray[Any]:
    return tensor.cpu().numpy().astype(kind)
