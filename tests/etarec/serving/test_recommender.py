"""A served recommender does exactly what a measurement does, and answers for users and items of every kind."""

import itertools
import logging
from typing import NamedTuple

import numpy as np
import pytest
import torch

from etarec.config import AdaptConfig, Reason, UserError
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.serving.catalogue import Recommendation
from etarec.serving.guard import Guard, GuardConfig
from etarec.serving.recommender import Learned, Recommender

from .deployment import Deployment

MOVING = {"batch_size": 12, "learning_rate": 0.03, "top_k": 5, "entropy_quantile": 0.8, "cosine_threshold": 0.8}
BY_LOSS = {"criterion": "loss", "transitions": "pending"}
EACH = [
    {"target": "none"},
    {"target": "state"},
    {"target": "state", "gate": "random"},
    {"target": "state", "top_k": None, "weighting": "clamped", "average_over": "all"},
    {},
    {"gate": "random", "dropout": 0.3},
    {"gate": "open", "optimizer": "sgd", "parameters": "projections"},
    {"fisher_alpha": 10.0, "fisher_samples": 8, "parameters": "body"},
    {"feedback": "next_request", "serve": "after"},
    {"feedback": "next_request", "transitions": "pending", "new_transitions_only": False},
    {"feedback": "next_request", "filtered": "residual", "admit": "uncertain"},
    {"filtered": "output", "shallow_negatives": 20, "min_admitted": 0.2},
    {**BY_LOSS, "correction": "selection", "calibrate": "each_batch"},
    {**BY_LOSS, "feedback": "next_request", "cosine_threshold": None, "filtered": "mlp"},
    {"objective": "entropy"},
    {"objective": "entropy", "serve": "after", "optimizer": "sgd", "top_k": None},
    {"objective": "entropy", "serve": "after", "reset": "batch"},
]
FEW_FAST = [
    pytest.param(c, marks=[] if n in (0, 1, 4, 8, 12) else [pytest.mark.slow], id="-".join(map(str, c.values())))
    for n, c in enumerate(EACH)
]
CPU = torch.device("cpu")


def valid_combinations() -> list[dict]:
    """The cross product of what decides on whom, when and by what the model learns, as far as it can be configured."""
    options = {
        "target": ["weights", "state", "none"],
        "objective": ["next_item", "entropy"],
        "gate": ["eta", "open", "random"],
        "criterion": ["entropy", "loss"],
        "feedback": ["immediate", "next_request"],
        "serve": ["before", "after"],
        "transitions": ["last", "pending"],
        "filtered": ["nothing", "residual"],
    }
    made = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    return [each for each in made if is_legal(each)]


def is_legal(changes: dict) -> bool:
    try:
        AdaptConfig(**MOVING, **changes)
    except ValueError:
        return False
    return True


class Place(NamedTuple):
    """The ranks that an item may have, since others score the same up to rounding."""

    first: int
    last: int


def place_of(item: str, among: Recommendation) -> Place:
    own, scores = among.scores[among.items.index(item)], np.array(among.scores)
    slack = 1e-5 * max(1, abs(own))
    return Place(int((scores > own + slack).sum()), int((scores >= own - slack).sum()) - 1)


def replayed(
    recommender: Recommender, deployment: Deployment, split: str, order: str
) -> tuple[Learned, dict[int, Place]]:
    """The adapter's work along a split, batch by batch, and targets' places among the recommended items, by sample.

    A batch in which a user comes twice is not recommended for, since the user's second request comes after the first
    observation.
    """
    users, items = deployment.observations(split, order)
    learned, places, size = [], {}, recommender.config.batch_size
    for begin in range(0, len(users), size):
        part = slice(begin, begin + size)
        if len(set(users[part])) == len(users[part]):
            found = recommender.recommend(users[part], k=len(recommender.catalogue))
            places |= {begin + n: place_of(items[begin + n], one) for n, one in enumerate(found)}
        told = recommender.observe(users[part], items[part])
        learned += told.batches or recommender.flush().batches
        assert not recommender.waiting
    whole = Learned(*(np.concatenate(column) for column in zip(*learned, strict=True)))
    return whole, places


def assert_replays(deployment: Deployment, config: AdaptConfig, split: str, order: str = "position") -> None:
    model = deployment.frozen.restore(CPU)
    measured = measure(model, Encoder(deployment.log, CPU), deployment.samples(split, order), config, 3)
    recommender = deployment.recommender(config, split)
    served, places = replayed(recommender, deployment, split, order)
    assert served.ranks.tolist() == measured.ranks.tolist()
    assert served.reasons.tolist() == measured.reasons.tolist()
    assert recommender.costs() == measured.costs
    assert all(place.first <= measured.ranks[n] <= place.last for n, place in places.items())
    assert sum(place.first == place.last for place in places.values()) >= 0.9 * len(places)
    assert len(places) > len(measured.ranks) / 3 or order == "user"
    counted = {reason: recommender.counts[reason.name.lower()] for reason in Reason}
    assert counted == {reason: int((measured.reasons == reason).sum()) for reason in Reason}
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, recommender.model.state_dict()[name])


@pytest.mark.parametrize("changes", FEW_FAST)
def test_a_stream_of_observations_is_the_stream_of_a_measurement(deployment, changes):
    assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), "test")


@pytest.mark.parametrize("order", ["user"])
@pytest.mark.parametrize("changes", [EACH[9], EACH[12]], ids=["pending", "loss"])
def test_users_may_come_twice_in_a_batch(deployment, changes, order):
    assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), "test", order)


@pytest.mark.slow
def test_combinations_of_all_options_replay(deployment):
    """A third of those with target `weights`; of the others, which ignore how weights learn, each target and gate.

    On validation and on test by turns.
    """
    made = valid_combinations()
    others = {(c["target"], c["gate"]): c for c in made if c["target"] != "weights"}
    learning = [c for c in made if c["target"] == "weights"]
    core = [{(c["gate"], c["objective"], c["feedback"]) for c in some} for some in (learning, learning[::3])]
    assert core[0] == core[1] and len(core[0]) == 12 and len(others) == 6
    for n, changes in enumerate([*learning[::3], *others.values()]):
        assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), ("valid", "test")[n % 2])


@pytest.mark.parametrize("changes", [EACH[1], EACH[8]], ids=["state", "after"])
def test_recommending_leaves_no_trace(deployment, changes):
    config = AdaptConfig(**{**MOVING, **changes})
    users, items = deployment.observations("test")
    asked, silent = (deployment.recommender(config) for _ in range(2))
    for begin in range(0, 60, 7):
        asked.recommend(users[begin : begin + 5])
        asked.observe(users[begin : begin + 7], items[begin : begin + 7])
    silent.observe(users[:63], items[:63])
    assert asked.counts - silent.counts == {"recommendations": 45}
    assert all(map(torch.equal, asked.model.state_dict().values(), silent.model.state_dict().values()))


@pytest.fixture
def recommender(deployment) -> Recommender:
    return deployment.recommender(AdaptConfig(**MOVING))


def test_a_history_gets_what_its_user_gets(recommender, deployment):
    users = deployment.names()
    histories = [[recommender.catalogue.tokens[c - 1] for c in recommender.users.by_token[u].items] for u in users]
    mixed = recommender.recommend([users[0], histories[1], ["unknown", *histories[2], "too"], users[3]], k=5)
    whole = recommender.recommend(users[:4], k=5)
    assert [one.items for one in mixed] == [one.items for one in whole]
    assert np.allclose([one.scores for one in mixed], [one.scores for one in whole], atol=1e-5)
    assert all(sorted(one.scores, reverse=True) == list(one.scores) and one.by == "model" for one in whole)


def test_nobody_known_gets_what_is_popular(recommender):
    found = recommender.recommend(["stranger", [], ["no such item"], "user 3"], k=4)
    popular = recommender.catalogue.popular(4)
    assert found[:3] == [popular] * 3 and found[3].by == "model"
    assert recommender.recommend([], k=3) == []
    with pytest.raises(UserError, match="k: given 0"):
        recommender.recommend(["user 3"], k=0)


def test_a_new_users_first_item_begins_a_history_and_the_second_is_a_sample(recommender):
    told = recommender.observe(["new", "new", "new"], ["item 1", "no such item", "item 2"])
    assert (told.taken, told.unknown, told.batches) == (2, 1, ())
    assert len(recommender.waiting) == 1 and recommender.recommend(["new"])[0].by == "model"
    assert recommender.recommend(["new"])[0].items == recommender.recommend([["item 1", "item 2"]])[0].items
    with pytest.raises(UserError, match="given 1 users and 2 items"):
        recommender.observe(["new"], ["item 1", "item 2"])


def test_seen_items_can_be_left_out(recommender):
    history = ["item 1", "item 2", "item 3"]
    (everything,) = recommender.recommend([history], k=70)
    (unseen,) = recommender.recommend([history], k=70, leave_out_seen=True)
    assert unseen.items == tuple(item for item in everything.items if item not in history)
    (few,) = recommender.recommend([history], k=5, leave_out_seen=True)
    assert few.items == unseen.items[:5]


def test_flushing_learns_a_smaller_batch_once(recommender, deployment):
    users, items = deployment.observations("test")
    recommender.observe(users[:5], items[:5])
    (batch,) = recommender.flush().batches
    assert len(batch.ranks) == 5 and recommender.flush().batches == ()


def test_a_model_that_falls_behind_goes_back_and_says_so(deployment, caplog):
    guard = Guard(GuardConfig())
    recommender = deployment.recommender(AdaptConfig(**{**MOVING, "gate": "open"}), guard=guard)
    guard.record(np.full(200, 50), np.zeros(200))  # earlier observations, which only the frozen model hit
    users, items = deployment.observations("test")
    with caplog.at_level(logging.WARNING):
        recommender.observe(users[:24], items[:24])
    assert recommender.counts["fallbacks"] == 1 and len(guard.adapted) == 12  # of the second batch
    assert "the model went back to its checkpoint: HR@10 on the last" in caplog.text
    recommender.go_back("asked")
    weights = deployment.frozen.restore(CPU).state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in recommender.model.state_dict().items())
    assert recommender.adapter.gate.threshold is None and not recommender.adapter.moving.optimizer.state


def test_a_model_that_is_no_longer_finite_goes_back_at_once(deployment, caplog):
    config = AdaptConfig(**{**MOVING, "learning_rate": 1e30, "gate": "open", "optimizer": "sgd"})
    recommender = deployment.recommender(config, guard=Guard())
    users, items = deployment.observations("test")
    recommender.observe(users[:60], items[:60])
    assert recommender.counts["fallbacks"] > 0 and "was no longer a finite number" in caplog.text
    assert all(weight.isfinite().all() for weight in recommender.model.parameters())


def test_without_a_guard_a_model_never_goes_back(deployment):
    recommender = deployment.recommender(AdaptConfig(**{**MOVING, "learning_rate": 3.0, "gate": "open"}))
    recommender.observe(*deployment.observations("test"))
    assert recommender.counts["fallbacks"] == 0


def test_memory_of_users_is_bounded(deployment):
    recommender = deployment.recommender(AdaptConfig(**MOVING), max_users=5)
    recommender.observe(*deployment.observations("test"))
    recommender.flush()
    recommender.observe(["new"], ["item 1"])
    assert len(recommender.users.by_token) <= 5 + MOVING["batch_size"]
    assert all(len(h.items) <= deployment.log.max_length for h in recommender.users.by_token.values())
