"""The literal baselines give the product's numbers, so the benchmarks compare the same work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, DataConfig, ModelConfig, SimulationConfig, TrainConfig
from etarec.data import Interactions, load
from etarec.models import build
from tests.benchmarks import literal, material, trial
from tests.benchmarks.training import literal_epoch, literal_weights


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> Interactions:
    simulation = SimulationConfig(users=150, items=150)
    return load(DataConfig(dataset="simulated", simulation=simulation, k_core=2, max_length=11))


@pytest.fixture(scope="module")
def checkpoint(data: Interactions) -> Checkpoint:
    """A model with every weight away from its initial value, so that every weight matters."""
    config, generator = ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=24), torch.Generator().manual_seed(1)
    model = build(config, data.n_items)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1 if "norm" in name else 0.35)
        model.items.weight[0] = 0
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Checkpoint(config, TrainConfig(), weights, data.vocabulary, data.sha256, epochs=1, valid={})


class Recorder(torch.optim.SGD):
    """Keeps the gradients of every step and moves no weight."""

    def __init__(self, named):
        self.named, self.steps = dict(named), []
        super().__init__(self.named.values(), lr=0.0)

    def step(self):
        self.steps.append({name: tensor.grad.clone() for name, tensor in self.named.items()})


def test_every_training_step_has_the_literal_gradients(data: Interactions, checkpoint: Checkpoint) -> None:
    config = TrainConfig(dropout=0.0, batch_size=64)
    assert data.train_end.max() > data.max_length  # some samples sit in windows of their own
    model = checkpoint.restore(
        material.DEVICE
    ).double()  # in float32, gradients that nearly cancel would be mere rounding
    weights = literal_weights(model)
    ours, plain = Recorder(model.named_parameters()), Recorder(weights.items())
    loss = material.epoch(model, data, config, ours)
    assert loss == pytest.approx(literal_epoch(weights, data, config, plain, checkpoint.model), rel=1e-7)
    assert len(ours.steps) == len(plain.steps) > 5
    for fast, slow in zip(ours.steps, plain.steps, strict=True):
        for name, gradient in slow.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(fast[name], gradient, rtol=1e-5, atol=1e-6 * scale, msg=lambda m, n=name: n + m)


TRIALS = {
    **trial.TRIALS,
    "weights, strict gate": AdaptConfig(entropy_quantile=0.6, cosine_threshold=0.1),
    "weights, next request": AdaptConfig(gate="open", feedback="next_request", new_transitions_only=False),
    "state, gated": AdaptConfig(target="state", weighting="none", cosine_threshold=0.2),
}


@pytest.mark.parametrize("name", TRIALS)
def test_trial_has_the_literal_ranks_and_admissions(name: str, data: Interactions, checkpoint: Checkpoint) -> None:
    subject = material.Subject(data, checkpoint)
    config = replace(TRIALS[name], top_k=20, batch_size=32)
    ours, plain = subject.trial(config), trial.plain(subject, config)
    assert (ours.admitted == plain.admitted).all()
    assert ours.admitted.any() == (config.target != "none")
    assert trial.difference(ours, plain) <= 0.005  # rounding
    assert np.abs(ours.ranks - plain.ranks).max() <= 1
    assert trial.difference(subject.trial(config, look_up=True), plain) <= 0.005


def test_difference_notices_other_ranks(data: Interactions, checkpoint: Checkpoint) -> None:
    subject = material.Subject(data, checkpoint)
    ours = subject.trial(AdaptConfig(target="none"))
    with pytest.raises(AssertionError, match="ranks differ"):
        trial.difference(ours, literal.Outcome(ours.ranks + 1, ours.admitted))
    with pytest.raises(AssertionError, match="admitted"):
        trial.difference(ours, literal.Outcome(ours.ranks, ~ours.admitted))
