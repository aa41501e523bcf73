"""Properties of every model: prefixes and padding, training, adaptation, and checkpoints."""

import math

import pytest
import torch
from small_models import (
    BERT4REC,
    GRU4REC,
    MAMBA4REC,
    SASREC,
    STATIC,
    assert_one_pass_serves_every_prefix,
    model_of,
    sequences,
)

from etarec import checkpoint, evaluate, train
from etarec.config import AdaptConfig, TrainConfig, UserError
from etarec.data import Interactions, stream
from etarec.encode import Encoder
from etarec.models import build
from etarec.ragged import OutputPositions

CPU = torch.device("cpu")
CAUSAL = pytest.mark.parametrize("config", [GRU4REC, SASREC, MAMBA4REC], ids=lambda config: config.name)
ALL = pytest.mark.parametrize("config", STATIC, ids=lambda config: config.name)


@CAUSAL
def test_one_pass_serves_every_prefix_whatever_stands_beside_it(config):
    assert_one_pass_serves_every_prefix(config)


@ALL
def test_sequences_of_different_lengths_run_together(config):
    model, items = model_of(config), sequences(4, 9)
    lengths = torch.tensor([9, 6, 2, 1])
    items[torch.arange(9) >= lengths[:, None]] = 0
    together = model.encode(model.embed(items), OutputPositions(lengths=lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = model(items[row : row + 1, :length])[0, -1]
        torch.testing.assert_close(together[row, 0], alone, rtol=0, atol=1e-11)


@ALL
def test_the_encoder_gives_each_prefix_its_own_state(config, log: Interactions):
    model, encoder = model_of(config, log.n_items), Encoder(log, CPU)
    samples = stream(log, "test", "position", 0)
    starts, ends = encoder.ranges(samples.users, samples.positions)
    hidden = encoder.hidden(model, starts, ends)
    for row in range(0, len(starts), 7):
        alone = model(encoder.items[None, starts[row] : ends[row]])[0, -1]
        torch.testing.assert_close(hidden[row], alone, rtol=0, atol=1e-11)


@ALL
def test_initial_values_leave_no_bias_and_no_padding(config):
    torch.manual_seed(0)
    model = build(config, 500)
    assert (model.items.weight[0] == 0).all() and (model.items.weight[1:] != 0).any(1).all()
    for name, weight in model.named_parameters():
        if name.endswith("bias") and "dt_proj" not in name:
            assert (weight == 0).all(), name


@pytest.mark.parametrize("config", [SASREC, BERT4REC], ids=lambda config: config.name)
def test_more_items_than_learned_positions_are_refused(config):
    model = model_of(config)
    model(sequences(1, 20))
    with pytest.raises(UserError, match=r"model\.positions: 2[01] places for 2[12] items"):
        model(sequences(1, 21))


@ALL
def test_projections_are_a_part_of_the_body(config):
    model = build(config, 30)
    groups = {name: {id(p) for p in model.adaptable(name)} for name in ("projections", "body", "all")}
    assert groups["projections"] and groups["projections"] < groups["body"] < groups["all"]
    assert groups["all"] - groups["body"] == {id(model.items.weight)}


@ALL
def test_training_learns_and_a_checkpoint_gives_the_model_back(config, log, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "default_device", lambda: CPU)
    losses: list[float] = []
    settings = TrainConfig(epochs=25, patience=25, learning_rate=0.02, batch_size=64, dropout=0.0)
    trained = train.train(log, config, settings, lambda epoch: losses.append(epoch.loss))
    assert losses[-1] < 0.87 * losses[0] and losses[0] < 1.2 * math.log(log.n_items - 1)
    checkpoint.write(trained, tmp_path / "c.safetensors")
    model = checkpoint.read(tmp_path / "c.safetensors").restore(CPU)
    samples = stream(log, "valid", "user", 0)
    measured = evaluate.measure(model, Encoder(log, CPU), samples, AdaptConfig(target="none"), 0)
    assert measured.metrics()["hr_at_10"] == trained.valid["hr_at_10"] > 10 / (log.n_items - 1)


@ALL
def test_every_model_adapts_its_weights(config, log):
    samples, model = stream(log, "test", "position", 0), model_of(config, log.n_items)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config_of = AdaptConfig(gate="open", batch_size=32, learning_rate=0.01, weighting="none")
    measured = evaluate.measure(model, Encoder(log, CPU), samples, config_of, 0)
    assert measured.admitted.mean() > 0.5
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {"items.weight"} < changed


@ALL
def test_only_an_inner_loop_has_states_to_adapt(config, log):
    samples = stream(log, "test", "position", 0)
    with pytest.raises(UserError, match=f"(?i)adapt.target: given state, but {config.name} has no inner loop"):
        evaluate.measure(model_of(config, log.n_items), Encoder(log, CPU), samples, AdaptConfig(target="state"), 0)
    with pytest.raises(UserError, match=f"skip_rate turns off the inner loop, and {config.name} has none"):
        train.train(log, config, TrainConfig(skip_rate=0.3))
