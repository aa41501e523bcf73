"""A state comes back whole, and is refused where it does not belong."""

import dataclasses

import numpy as np
import pytest
import torch

from etarec.config import AdaptConfig, Reason, UserError
from etarec.serving import state
from etarec.serving.guard import Guard

from .deployment import Deployment

MOVING = {"batch_size": 12, "learning_rate": 0.03, "top_k": 5, "entropy_quantile": 0.8, "cosine_threshold": 0.8}
EACH = [
    {"target": "none"},
    {"target": "state"},
    {"target": "state", "gate": "random"},
    {"transitions": "pending", "feedback": "next_request", "filtered": "residual"},
    {"criterion": "loss", "transitions": "pending", "dropout": 0.2},
    {"gate": "random", "optimizer": "sgd", "filtered": "output", "shallow_negatives": 20},
    {"objective": "entropy", "serve": "after", "reset": "batch"},
    {"fisher_alpha": 10.0, "fisher_samples": 4},
]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(c, marks=[] if n in (2, 3) else [pytest.mark.slow], id="-".join(map(str, c.values())))
        for n, c in enumerate(EACH)
    ],
)
def test_whoever_reads_a_state_goes_on_as_its_writer(deployment: Deployment, tmp_path, changes):
    config = AdaptConfig(**{**MOVING, **changes})
    users, items = deployment.observations("test")
    one, other = (deployment.recommender(config, guard=Guard()) for _ in range(2))
    one.observe(users[:40], items[:40])  # three batches, and four samples that wait
    state.write(one, tmp_path / "state", 7)
    other.observe(users[30:80], items[30:80])  # another number of batches, all forgotten
    assert state.read(other, tmp_path / "state") == 7
    for left, right in zip(*(r.observe(users[40:], items[40:]).batches for r in (one, other)), strict=True):
        assert np.array_equal(left.ranks, right.ranks) and np.array_equal(left.reasons, right.reasons)
    assert one.counts == other.counts and one.costs() == other.costs() and len(one.waiting) == len(other.waiting)
    assert one.recommend(users[:20]) == other.recommend(users[:20])
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))
    assert (one.guard and one.guard.adapted) == (other.guard and other.guard.adapted)
    assert list(one.users.by_token) == list(other.users.by_token)
    assert np.array_equal(one.catalogue.counts, other.catalogue.counts)


def test_a_state_of_another_configuration_checkpoint_or_kind_is_refused(deployment: Deployment, tmp_path):
    path = tmp_path / "state"
    state.write(deployment.recommender(AdaptConfig(**MOVING)), path, 1)
    with pytest.raises(UserError, match="adapt is another"):
        state.read(deployment.recommender(AdaptConfig(**{**MOVING, "top_k": 6})), path)
    other = Deployment(deployment.log, dataclasses.replace(deployment.frozen, sha256="another"))
    with pytest.raises(UserError, match="checkpoint is another"):
        state.read(other.recommender(AdaptConfig(**MOVING)), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="not a state of a served recommender"):
        state.read(deployment.recommender(AdaptConfig(**MOVING)), path)


COUNTING = """
import torch
from etarec.config import Reason
from etarec.gate import Decision, decide

class EverySecond:
    def __init__(self, options, seed):
        self.batches = 0
    def judge(self, batch):
        self.batches += 1
        skipped = torch.full_like(batch.nothing_to_learn, self.batches % 2 == 0)
        return Decision(decide(batch.nothing_to_learn, skipped, Reason.OWN))
    def state_dict(self):
        return {"batches": torch.tensor(self.batches)}
    def load_state_dict(self, tensors):
        self.batches = int(tensors["batches"])
"""


@pytest.mark.parametrize("target", ["weights", "state"])
def test_what_a_gate_of_the_users_own_keeps_is_kept(deployment: Deployment, tmp_path, own_package, target):
    (own_package / "counting.py").write_text(COUNTING)
    config = AdaptConfig(target=target, gate="mypackage.counting:EverySecond", batch_size=12, weighting="none")
    users, items = deployment.observations("test")
    one, other = (deployment.recommender(config) for _ in range(2))
    one.observe(users[:36], items[:36])
    one.recommend(users[:5])  # which leaves no trace in the gate
    state.write(one, tmp_path / "state", 1)
    state.read(other, tmp_path / "state")
    expected, found = (r.observe(users[36:60], items[36:60]).batches for r in (one, other))
    assert [batch.reasons.tolist() for batch in expected] == [batch.reasons.tolist() for batch in found]
    assert (expected[0].reasons == Reason.OWN).any() and not (expected[1].reasons == Reason.OWN).any()
