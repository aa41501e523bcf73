"""Training: the loss against literal prefixes, the stopping rule, the seed and the cache."""

from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from etarec import fitting, train
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, Stream, stream
from etarec.disk import file_sha256
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.fitting import Epoch, fit
from etarec.metrics import quality
from etarec.models import SequenceModel, build
from etarec.ttt import WITHOUT_INNER_LOOP

CPU = torch.device("cpu")
# One step holds all samples, so the epoch's loss is that of the initial weights.
ONE_STEP = TrainConfig(epochs=1, batch_size=10**6, dropout=0.0, window_stride=1, learning_rate=0.01)
QUICK = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02, dropout=0.1)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "default_device", lambda: CPU)


@pytest.fixture
def model(frozen: Checkpoint) -> SequenceModel:
    return frozen.restore(CPU).double()


def literal_loss(model: SequenceModel, log: Interactions, **kwargs: object) -> torch.Tensor:
    """The mean cross-entropy over all training samples, each scored on its own from its own input."""
    samples, losses = stream(log, "train", "user", 0), []
    for user, position in zip(samples.users, samples.positions, strict=True):
        history = torch.tensor(log.items[log.offsets[user] : log.offsets[user + 1]], dtype=torch.long)
        inputs = history[max(0, position - log.max_length) : position]
        scores = model(inputs[None], **kwargs)[0, -1] @ model.items.weight[1:].T
        losses.append(F.cross_entropy(scores, history[position] - 1))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("max_length", [3, 9, 50])
def test_a_loss_at_every_position_is_the_loss_over_all_prefixes(model, frozen, log, max_length):
    """In value, and in gradient: the weights after one step are equal too."""
    short = replace(log, max_length=max_length)
    literal = frozen.restore(CPU).double().train()
    loss = literal_loss(literal, short)
    loss.backward()
    torch.optim.Adam(literal.parameters(), lr=0.01).step()
    (epoch,) = fit(model, short, ONE_STEP)
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-10)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, literal.state_dict()[name], rtol=0, atol=1e-6, msg=name)


def test_every_training_sample_counts_once_at_any_stride_and_step_size(model, log, monkeypatch):
    counted = []
    entropy = fitting.scoring.cross_entropy

    def counting(hidden, vectors, targets, **named):
        counted.append(targets.tolist())
        return entropy(hidden, vectors, targets, **named)

    monkeypatch.setattr(fitting.scoring, "cross_entropy", counting)
    samples = stream(log, "train", "user", 0)
    expected = sorted((log.items[log.offsets[samples.users] + samples.positions] - 1).tolist())
    for stride, size in ((1, 10), (4, 25), (8, 1), (9, 10**6)):
        counted.clear()
        next(fit(model, log, replace(ONE_STEP, window_stride=stride, batch_size=size)))
        assert sorted(chain.from_iterable(counted)) == expected
        assert max(map(len, counted)) < size + log.max_length


def test_skipped_sequences_are_trained_without_the_inner_loop(model, frozen, log):
    expected = literal_loss(frozen.restore(CPU).double(), log, inner=WITHOUT_INNER_LOOP).item()
    (epoch,) = fit(model, log, replace(ONE_STEP, skip_rate=1.0))
    assert epoch.loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("skip_rate", [0.0, 0.3])
def test_skip_rate_is_the_share_of_sequences_that_skip(model, log, skip_rate, monkeypatch):
    scales, encode = [], model.encode

    def watched(x, outputs, inner):
        if model.training:
            scales.append(inner.rate_scale)
        return encode(x, outputs, inner)

    monkeypatch.setattr(model, "encode", watched)
    for _ in fit(model, log, TrainConfig(epochs=40, patience=40, learning_rate=1e-9, skip_rate=skip_rate)):
        pass
    if not skip_rate:
        assert all(scale is None for scale in scales)
        return
    drawn = torch.cat(scales)
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert float((drawn == 0).double().mean()) == pytest.approx(skip_rate, abs=0.05)


def test_training_lowers_the_loss_and_improves_the_ranking(log, model_config):
    torch.manual_seed(0)
    learner = build(model_config, log.n_items)
    epochs = list(fit(learner, log, TrainConfig(epochs=12, batch_size=16, learning_rate=0.02)))
    assert [epoch.number for epoch in epochs] == list(range(1, 13))
    assert epochs[0].loss == pytest.approx(np.log(70), abs=0.2)
    assert epochs[-1].loss < 0.6 * epochs[0].loss
    assert max(epoch.valid["ndcg_at_10"] for epoch in epochs) > 2 * epochs[0].valid["ndcg_at_10"]


def test_sampling_every_item_gives_the_full_softmax(model, frozen, log):
    """Loss and gradients are equal. Weights are not compared: SparseAdam rounds differently from Adam."""
    other = frozen.restore(CPU).double()
    (full,), (sampled,) = (
        list(fit(learner, log, replace(ONE_STEP, negatives=negatives)))
        for learner, negatives in ((model, None), (other, 10**6))
    )
    assert sampled.loss == pytest.approx(full.loss, rel=1e-10)
    gradients = {name: weight.grad for name, weight in other.named_parameters()}
    gradients["items.weight"] = gradients["items.weight"].to_dense()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-6, atol=1e-10, msg=name)


def test_training_on_sampled_items_improves_the_ranking_and_repeats(log, model_config):
    config = TrainConfig(epochs=12, batch_size=16, learning_rate=0.02, negatives=20)

    def ran() -> list[Epoch]:
        torch.manual_seed(0)
        return [replace(epoch, seconds=0) for epoch in fit(build(model_config, log.n_items), log, config)]

    epochs = ran()
    assert max(epoch.valid["ndcg_at_10"] for epoch in epochs) > 2 * epochs[0].valid["ndcg_at_10"]
    assert epochs == ran()


def test_a_step_on_sampled_items_changes_no_other_items(model, log, monkeypatch):
    before = model.items.weight.detach().clone()
    seen = []
    model.items.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten()))
    list(fit(model, log, replace(ONE_STEP, batch_size=10, negatives=2)))
    trained = torch.cat(seen).unique()
    monkeypatch.undo()
    moved = (model.items.weight != before).any(1).nonzero()[:, 0]
    assert torch.isin(moved, trained).all()
    assert model.items.weight.grad.is_sparse


def scripted(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the validation NDCG@10 of successive epochs by `values`."""
    found = iter(values)
    monkeypatch.setattr(fitting, "quality", lambda ranks: {"ndcg_at_10": next(found)})


def test_fitting_stops_after_patience_epochs_without_improvement(model, log, monkeypatch):
    scripted([0.1, 0.3, 0.2, 0.3, 0.31, 0.1, 0.1, 0.31, 0.9], monkeypatch)
    epochs = list(fit(model, log, replace(ONE_STEP, epochs=300, patience=3)))
    assert [epoch.improved for epoch in epochs] == [True, True, False, False, True, False, False, False]


def test_fitting_stops_after_the_configured_epochs(model, log, monkeypatch):
    scripted([0.1, 0.2, 0.3, 0.4], monkeypatch)
    assert len(list(fit(model, log, replace(ONE_STEP, epochs=3, patience=1)))) == 3


def test_the_checkpoint_holds_the_best_epoch(log, model_config):
    epochs: list[Epoch] = []
    found = train.train(log, model_config, replace(QUICK, epochs=60, patience=2, learning_rate=0.1), epochs.append)
    best = max(epochs, key=lambda epoch: epoch.valid["ndcg_at_10"])
    assert len(epochs) == best.number + 2  # so the model's last weights differ from the best
    assert (found.epochs, found.valid) == (best.number, best.valid)
    assert (found.model, found.data_sha256) == (model_config, log.sha256)
    assert found.vocabulary.tolist() == log.vocabulary.tolist()
    samples = stream(log, "valid", "position", 0)
    ranks = measure(found.restore(CPU), Encoder(log, CPU), samples, AdaptConfig(target="none"), 0).ranks
    assert quality(ranks) == pytest.approx(best.valid)


def test_the_seed_determines_the_weights(log, model_config):
    def weights(**fields: object) -> dict[str, np.ndarray]:
        return train.train(log, model_config, replace(QUICK, skip_rate=0.3, **fields)).weights

    first, again, other = weights(), weights(), weights(seed=1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_validation_and_test_are_never_trained_on(log, model_config):
    """Changing the items after the training split changes no weight (in one epoch, so that none is stopped early)."""
    ordinal = np.arange(log.n_interactions) - np.repeat(log.offsets[:-1], log.n_samples + 1)
    behind = ordinal > np.repeat(log.train_end, log.n_samples + 1)
    changed = replace(log, items=np.where(behind, log.items % 70 + 1, log.items).astype(np.int32))
    once = replace(QUICK, epochs=1)
    mine, other = (train.train(data, model_config, once) for data in (log, changed))
    assert all(np.array_equal(mine.weights[name], other.weights[name]) for name in mine.weights)


def test_dropout_is_on_in_training_and_off_in_validation(log, model_config):
    torch.manual_seed(0)
    learner = build(model_config, log.n_items, dropout=0.5)
    modes = []
    learner.dropout.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    list(fit(learner, log, replace(ONE_STEP, epochs=2)))
    assert [training for training, _ in groupby(modes)] == [True, False, True, False]


def test_diverging_training_raises_a_user_error(log, model_config):
    with pytest.raises(UserError, match=r"diverged in epoch \d+: its loss is nan; expected a train.learning_rate"):
        train.train(log, model_config, replace(QUICK, learning_rate=1e30))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cached_checkpoint_is_reused(log, model_config, cache, monkeypatch):
    epochs: list[Epoch] = []
    trained, path = train.load_or_train(log, model_config, QUICK, epochs.append)
    assert path.parent == cache and path.is_file() and len(epochs) == 3
    assert trained.sha256 == file_sha256(path)

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train, "train", refuse)
    again, same = train.load_or_train(log, model_config, QUICK, epochs.append)
    assert same == path and len(epochs) == 3
    assert all(np.array_equal(again.weights[name], trained.weights[name]) for name in trained.weights)


def test_other_data_model_or_settings_have_another_file_in_the_cache(log, model_config, cache, monkeypatch):
    variants = [
        (log, model_config, QUICK),
        (replace(log, sha256="another split"), model_config, QUICK),
        (log, replace(model_config, inner="linear"), QUICK),
        (log, model_config, replace(QUICK, skip_rate=0.3)),
        (log, model_config, replace(QUICK, seed=1)),
        (log, model_config, replace(QUICK, negatives=9)),
    ]
    paths = {train.cache_path(*variant) for variant in variants}
    assert len(paths) == len(variants)
    assert train.cache_path(log.without_test(), model_config, QUICK) in paths
    monkeypatch.setattr(train, "RECIPE", train.RECIPE + 1)
    assert train.cache_path(*variants[0]) not in paths


def test_the_default_cache_is_a_hidden_folder_in_the_current_one(log, monkeypatch, tmp_path):
    monkeypatch.delenv("ETAREC_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert train.cache_path(log, ModelConfig(), TrainConfig()).parent == tmp_path / ".cache" / "etarec"


def test_fit_needs_no_test_samples(model, log):
    """A search's workers have no test samples."""
    cut = log.without_test()
    assert len(stream(cut, "test", "user", 0)) == 0 and isinstance(stream(cut, "valid", "user", 0), Stream)
    (epoch,) = fit(model, cut, ONE_STEP)
    assert np.isfinite(epoch.loss)
