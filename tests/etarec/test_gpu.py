"""A CUDA device gives the numbers of the CPU, the same in every run. Run with `-m gpu`; CI has no such device."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from etarec import encode, fitting, train
from etarec.adapt.shared_passes import SharedPasses
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.data import stream
from etarec.device import default_device
from etarec.encode import Encoder
from etarec.evaluate import Measurement, measure
from etarec.models import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CPU, GPU = torch.device("cpu"), default_device()
MOVING = {"batch_size": 32, "learning_rate": 0.03, "top_k": 5, "entropy_quantile": 0.8, "cosine_threshold": 0.8}
CONFIGS = {
    "none": AdaptConfig(target="none"),
    "state": AdaptConfig(target="state", **MOVING),
    "state, unweighted": AdaptConfig(target="state", weighting="none", **MOVING),
    "weights": AdaptConfig(**MOVING),
    "weights, shallow steps": AdaptConfig(gate="random", filtered="mlp", shallow_negatives=8, **MOVING),
    "weights, corrected": AdaptConfig(
        **{**MOVING, "cosine_threshold": None}, criterion="loss", correction="selection", filtered="residual"
    ),
    "by loss": AdaptConfig(**MOVING, criterion="loss", calibrate="each_batch", transitions="pending"),
    "all items": AdaptConfig(**{**MOVING, "top_k": None}, objective="entropy", serve="after", optimizer="sgd"),
    "few items": AdaptConfig(**{**MOVING, "top_k": 2}, objective="entropy"),
    "penalised": AdaptConfig(**MOVING, fisher_alpha=10.0, fisher_samples=20),
    "episodic": AdaptConfig(**MOVING, feedback="next_request", serve="after", reset="batch"),
    "random": AdaptConfig(**MOVING, gate="random", parameters="projections"),
}
CASES = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
MODELS = {
    "ttt4rec": ModelConfig(width=64, heads=4, mini_batch=8, mlp_width=32),
    "ttt4rec, linear": ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=32, inner="linear"),
    "gru4rec": ModelConfig(name="gru4rec", width=16, mlp_width=32),
    "sasrec": ModelConfig(name="sasrec", width=16, heads=2, mlp_width=32),
    "bert4rec": ModelConfig(name="bert4rec", width=16, heads=2, mlp_width=32),
    "mamba4rec": ModelConfig(name="mamba4rec", width=16, mlp_width=32),
}


def measured(log, frozen, config: AdaptConfig, device: torch.device, dtype=torch.float64) -> Measurement:
    model = frozen.restore(device).to(dtype)
    return measure(model, Encoder(log, device), stream(log, "test", "position", 0), config, seed=0)


def assert_same(one: Measurement, other: Measurement) -> None:
    np.testing.assert_array_equal(one.admitted, other.admitted)
    np.testing.assert_array_equal(one.ranks, other.ranks)
    assert np.array_equal(one.reasons, other.reasons)


@CASES
def test_a_trial_measures_the_same_as_on_the_cpu(log, frozen, config):
    """In double precision, so that rounding cannot change a decision."""
    found = measured(log, frozen, config, GPU)
    assert_same(found, measured(log, frozen, config, CPU))
    assert config.target == "none" or 0 < found.admitted.mean() < 1 or config.reset == "batch"


@CASES
def test_float32_differs_from_the_cpu_by_rounding_only(log, frozen, config):
    found, expected = (measured(log, frozen, config, device, torch.float32) for device in (GPU, CPU))
    assert (found.ranks == expected.ranks).mean() > 0.95
    assert (found.admitted == expected.admitted).mean() > 0.97


@CASES
def test_a_trial_is_the_same_in_every_run(log, frozen, config):
    """Exactly: if the device chose the order of its sums, runs would drift apart from batch to batch."""
    found = [measured(log, frozen, config, GPU, torch.float32) for _ in range(3)]
    for other in found[1:]:
        assert_same(found[0], other)


@CASES
def test_shared_passes_give_the_same_as_serving(log, frozen, config):
    samples, model, encoder = stream(log, "valid", "position", 0), frozen.restore(GPU), Encoder(log, GPU)
    passes = SharedPasses(model, encoder, samples, ("gpu",), None)
    looked_up = measure(model, encoder, samples, config, seed=0, shared=passes)
    frozen.reset(model)
    assert_same(looked_up, measure(model, encoder, samples, config, seed=0))
    assert looked_up.seconds["seconds"] > 0


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_every_model_trains_as_on_the_cpu(log, config, monkeypatch):
    """The groups of sequences are those of the CPU, because BERT4Rec draws its masks group by group."""
    monkeypatch.setitem(encode.IDLE_ROWS, "cuda", encode.IDLE_ROWS["cpu"])
    losses = []
    for device in (CPU, GPU):
        torch.manual_seed(0)
        model = build(config, log.n_items, dropout=0.0).double().to(device)
        settings = replace(TrainConfig(), dropout=0.0, batch_size=64, learning_rate=0.01)
        optimizers, rng = fitting._optimizers(model, settings), np.random.default_rng(0)
        losses.append([fitting._epoch(model, Encoder(log, device), settings, optimizers, rng) for _ in range(2)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_every_model_adapts_as_on_the_cpu_and_the_same_in_every_run(log, config):
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build(config, log.n_items).state_dict().items()}
    untrained = Checkpoint(config, TrainConfig(), weights, log.vocabulary, log.sha256, epochs=1, valid={})
    adapting = AdaptConfig(gate="open", batch_size=32, learning_rate=0.01, fisher_alpha=1.0, fisher_samples=20)
    assert_same(measured(log, untrained, adapting, GPU), measured(log, untrained, adapting, CPU))
    found = [measured(log, untrained, adapting, GPU, torch.float32) for _ in range(2)]
    assert_same(*found)


@pytest.mark.parametrize("negatives", [None, 20], ids=["all items", "sampled"])
def test_training_is_the_same_in_every_run(log, negatives):
    settings = TrainConfig(epochs=2, batch_size=64, negatives=negatives)
    found = [train.train(log, MODELS["ttt4rec"], settings) for _ in range(2)]
    for name, array in found[0].weights.items():
        np.testing.assert_array_equal(array, found[1].weights[name], name)
