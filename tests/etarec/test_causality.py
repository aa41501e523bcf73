"""A rank is settled before its target teaches: in every order, under both kinds of feedback, for every shallow step."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from etarec.config import AdaptConfig
from etarec.config.data import OrderName
from etarec.data import Interactions, Stream, stream
from etarec.encode import Encoder
from etarec.evaluate import measure

CPU = torch.device("cpu")
BATCH = 32
BY_LOSS = {"criterion": "loss", "calibrate": "each_batch", "cosine_threshold": None, "correction": "selection"}


@pytest.fixture
def timed(log: Interactions) -> Interactions:
    """The log with times, at which users take turns at random."""
    times = np.random.default_rng(3).permutation(len(log.items)).astype(float)
    for start, end in zip(log.offsets, log.offsets[1:], strict=False):
        times[start:end].sort()
    return replace(log, timestamps=times)


def middle(samples: Stream) -> int:
    """A place in the middle of the stream: no sample before it has its target as an input, and its user comes back."""
    for place in range(len(samples) // 2, len(samples)):
        mine = samples.users == samples.users[place]
        earlier, later = samples.positions[:place][mine[:place]], mine[place + 1 :]
        if later.any() and (earlier < samples.positions[place]).all():
            return place
    raise AssertionError("no such place")


@pytest.mark.parametrize("order", get_args(OrderName))
@pytest.mark.parametrize("feedback", ["immediate", "next_request"])
@pytest.mark.parametrize("filtered", ["nothing", "output", "residual", "mlp"])
def test_another_target_moves_no_earlier_rank(timed: Interactions, frozen, order, feedback, filtered) -> None:
    config = AdaptConfig(
        batch_size=BATCH,
        learning_rate=0.03,
        weighting="none",
        transitions="pending",
        feedback=feedback,
        filtered=filtered,
        **BY_LOSS,
    )
    samples = stream(timed, "test", order, 0)

    def ranks(data: Interactions) -> np.ndarray:
        return measure(frozen.restore(CPU), Encoder(data, CPU), samples, config, seed=0).ranks

    place, items = middle(samples), timed.items.copy()
    target = timed.offsets[samples.users[place]] + samples.positions[place]
    items[target] = items[target] % (timed.n_items - 1) + 1
    before, after = ranks(timed), ranks(replace(timed, items=items))
    assert np.array_equal(after[:place], before[:place])
    assert after[place] != before[place] and not np.array_equal(after[place + 1 :], before[place + 1 :])
