"""The embedded data set: it is repeatable, and both a sequential model and adaptation pay on it."""

import numpy as np
import pandas as pd
import pytest

from etarec import data, simulate
from etarec.config import DataConfig, SimulationConfig
from etarec.data import Interactions

BATCH = 256


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return simulate.interactions(SimulationConfig())


@pytest.fixture(scope="module")
def world() -> Interactions:
    return data.load(DataConfig(dataset="simulated"))


def test_the_seed_determines_the_log(log: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(log, simulate.interactions(SimulationConfig()))
    other = simulate.interactions(SimulationConfig(seed=1))
    assert log["item_id"].tolist()[:1000] != other["item_id"].tolist()[:1000]


def test_histories_have_varied_lengths_and_span_the_calendar(log: pd.DataFrame) -> None:
    lengths = log.groupby("user_id").size()
    assert len(lengths) == 3000
    assert lengths.min() >= 5
    assert 10 <= lengths.mean() <= 16
    assert lengths.max() > 5 * lengths.median()
    assert log.groupby("user_id")["timestamp"].diff().dropna().gt(0).all()
    spans = log.groupby("user_id")["timestamp"].agg(lambda times: times.iloc[-1] - times.iloc[0])
    assert spans.min() > simulate.DAYS * 86_400 / 2


def test_popularity_has_a_long_tail(log: pd.DataFrame) -> None:
    counts = log["item_id"].value_counts()
    assert 1000 <= len(counts) <= 1500
    assert counts.iloc[: len(counts) // 10].sum() > 0.35 * len(log)


def test_most_users_and_items_survive_the_k_core_filter(world: Interactions) -> None:
    assert world.n_users > 2900
    assert world.n_items > 1000
    assert world.timestamps is not None


@pytest.mark.parametrize(
    ("users", "items"), [(1, 20), (300, 20), *((7, items) for items in range(21, 61)), (500, 5000)]
)
def test_every_legal_size_can_be_generated(users: int, items: int) -> None:
    log = simulate.interactions(SimulationConfig(users=users, items=items))
    assert log["user_id"].nunique() == users
    assert log["item_id"].nunique() <= items
    assert log.notna().all(axis=None)


class MarkovTable:
    """Scores items by counts of item-to-item transitions, then by popularity: the simplest sequential model."""

    def __init__(self, world: Interactions):
        self.world = world
        self.transitions = np.zeros((world.n_items, world.n_items), np.float32)
        self.popularity = np.zeros(world.n_items, np.float32)
        train = data.stream(world, "train", "user", 0)
        self.learn(train.users, train.positions)

    def learn(self, users: np.ndarray, positions: np.ndarray) -> None:
        targets = self.world.offsets[users] + positions
        np.add.at(self.transitions, (self.world.items[targets - 1], self.world.items[targets]), 1)
        np.add.at(self.popularity, self.world.items[targets], 1)

    def hits(self, split: str, order: str, adapt: bool) -> np.ndarray:
        """Whether each sample is a hit at 10, [S]; with `adapt`, the table learns each input's last transition."""
        served = data.stream(self.world, split, order, 0)
        hits = []
        for begin in range(0, len(served), BATCH):
            users, positions = served.users[begin : begin + BATCH], served.positions[begin : begin + BATCH]
            targets = self.world.offsets[users] + positions
            scores = self.transitions[self.world.items[targets - 1]] + 1e-4 * self.popularity
            hits.append(hit_at_10(scores, self.world.items[targets]))
            new = ~data.trained(self.world)[targets - 1]
            if adapt:
                self.learn(users[new], positions[new] - 1)
        return np.concatenate(hits)


def hit_at_10(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    own = scores[np.arange(len(targets)), targets]
    return (scores >= own[:, None]).sum(axis=1) - 1 < 10


def popularity_hit_rate(table: MarkovTable, split: str) -> float:
    served = data.stream(table.world, split, "user", 0)
    targets = table.world.items[table.world.offsets[served.users] + served.positions]
    ranks = (table.popularity >= table.popularity[:, None]).sum(axis=1) - 1
    return float((ranks[targets] < 10).mean())


@pytest.mark.parametrize("order", ["position", "time"])
def test_sequences_beat_popularity_and_adapting_beats_a_frozen_table(world: Interactions, order: str) -> None:
    for split, gain in (("valid", 0.006), ("test", 0.08)):
        popular = popularity_hit_rate(MarkovTable(world), split)
        frozen = MarkovTable(world).hits(split, order, adapt=False).mean()
        adapted = MarkovTable(world).hits(split, order, adapt=True).mean()
        assert frozen > 2 * popular
        assert adapted > frozen + gain


def test_a_frozen_table_ages_along_the_calendar(world: Interactions) -> None:
    frozen = MarkovTable(world)
    early, late = (part.mean() for part in np.array_split(frozen.hits("test", "time", adapt=False), 2))
    assert frozen.hits("valid", "time", adapt=False).mean() - 0.05 > early > late + 0.01
