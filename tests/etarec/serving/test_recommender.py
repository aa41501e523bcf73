"""A served recommender does exactly what a measurement does, and answers for users and items of every kind."""

import dataclasses
import itertools
import logging

import numpy as np
import pytest
import torch
from .deployment import Deployment

from etarec.config import AdaptConfig, Reason, UserError
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.serving.guard import Guard, GuardConfig
from etarec.serving.recommender import Learned, Recommender

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


def replayed(
    recommender: Recommender, deployment: Deployment, split: str, order: str
) -> tuple[Learned, dict[int, int]]:
    """What the adapter did along a split, batch by batch, and targets' places among the recommended items, by sample.

    A batch in which a user comes twice is not recommended for, since the user's second request comes after the first
    observation.
    """
    users, items = deployment.observations(split, order)
    learned, places, size = [], {}, recommender.config.batch_size
    for begin in range(0, len(users), size):
        part = slice(begin, begin + size)
        if len(set(users[part])) == len(users[part]):
            found = recommender.recommend(users[part], k=len(recommender.catalogue))
            places |= {begin + n: one.items.index(items[begin + n]) for n, one in enumerate(found)}
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
    assert places == {n: measured.ranks[n] for n in places}
    assert len(places) > len(measured.ranks) / 3 or order == "user"
    counted = {reason: recommender.counts[reason.name.lower()] for reason in Reason}
    assert counted == {reason: int((measured.reasons == reason).sum()) for reason in Reason}
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, recommender.model.state_dict()[name])


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("changes", EACH, ids=lambda c: "-".join(map(str, c.values())) or "default")
def test_a_stream_of_observations_is_the_stream_of_a_measurement(deployment, changes, split):
    assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), split)


@pytest.mark.parametrize("order", ["user"])
@pytest.mark.parametrize("changes", [EACH[4], EACH[9], EACH[12]], ids=["last", "pending", "loss"])
def test_users_may_come_twice_in_a_batch(deployment, changes, order):
    assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), "test", order)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_combination_replays(deployment, split):
    made = valid_combinations()
    assert len(made) > 100
    for changes in made:
        assert_replays(deployment, AdaptConfig(**{**MOVING, **changes}), split)
