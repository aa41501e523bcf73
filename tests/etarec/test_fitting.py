"""Fitting: the loss against literal prefixes, the masks of BERT4Rec, the sampled softmax and the stopping rule."""

import copy
from dataclasses import replace
from itertools import chain, groupby

import numpy as np
import pytest
import torch
from small_models import BERT4REC
from torch import Tensor
from torch.nn import functional as F

from etarec import fitting, likelihood
from etarec.checkpoint import Checkpoint
from etarec.config import TrainConfig
from etarec.data import Interactions, Stream, stream
from etarec.encode import Encoder
from etarec.fitting import Epoch, fit
from etarec.models import BERT4Rec, SequenceModel, build
from etarec.ttt import WITHOUT_INNER_LOOP

CPU = torch.device("cpu")


# One step holds all samples, so the epoch's loss is that of the initial weights.
ONE_STEP = TrainConfig(epochs=1, batch_size=10**6, dropout=0.0, window_stride=1, learning_rate=0.01)


QUICK = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02, dropout=0.1)


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
    entropy = fitting.likelihood.cross_entropy

    def counting(hidden, vectors, targets, **named):
        counted.append(targets.tolist())
        return entropy(hidden, vectors, targets, **named)

    monkeypatch.setattr(fitting.likelihood, "cross_entropy", counting)
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
    seen, apply = [], likelihood.drawn_cross_entropy

    def recording(hidden, table, targets, negatives, rng, padding):
        drawn = copy.deepcopy(rng).choice(len(table) - padding, negatives, replace=False)
        seen.extend((targets + padding, torch.from_numpy(drawn) + padding))
        return apply(hidden, table, targets, negatives, rng, padding)

    monkeypatch.setattr(likelihood, "drawn_cross_entropy", recording)
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


def test_patience_ends_no_training_before_the_epochs_that_it_takes_at_least(model, log, monkeypatch):
    scripted([0.3, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.9], monkeypatch)
    epochs = list(fit(model, log, replace(ONE_STEP, epochs=300, patience=2), at_least=5))
    assert [epoch.improved for epoch in epochs] == [True, False, False, False, True, False, False]
    scripted([0.3] * 9, monkeypatch)
    assert len(list(fit(model, log, replace(ONE_STEP, epochs=300, patience=2), at_least=4))) == 4
    scripted([0.3] * 9, monkeypatch)
    assert len(list(fit(model, log, replace(ONE_STEP, epochs=3, patience=1), at_least=4))) == 3


def test_fitting_stops_after_the_configured_epochs(model, log, monkeypatch):
    scripted([0.1, 0.2, 0.3, 0.4], monkeypatch)
    assert len(list(fit(model, log, replace(ONE_STEP, epochs=3, patience=1)))) == 3


def test_dropout_is_on_in_training_and_off_in_validation(log, model_config):
    torch.manual_seed(0)
    learner = build(model_config, log.n_items, dropout=0.5)
    modes = []
    learner.dropout.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    list(fit(learner, log, replace(ONE_STEP, epochs=2)))
    assert [training for training, _ in groupby(modes)] == [True, False, True, False]


def test_fit_needs_no_test_samples(model, log):
    """A search's workers have no test samples."""
    cut = log.without_test()
    assert len(stream(cut, "test", "user", 0)) == 0 and isinstance(stream(cut, "valid", "user", 0), Stream)
    (epoch,) = fit(model, cut, ONE_STEP)
    assert np.isfinite(epoch.loss)


class Watched(BERT4Rec):
    """Keeps the items that it embedded and the masks that it filled in."""

    def embed(self, items: Tensor) -> Tensor:
        self.shown = [*getattr(self, "shown", []), items]
        return super().embed(items)

    def fill_in(self, x: Tensor, masked: Tensor, lengths: Tensor) -> Tensor:
        self.asked = [*getattr(self, "asked", []), (masked, lengths)]
        return super().fill_in(x, masked, lengths)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_lie_inside_the_sequence_and_hide_their_targets(share, log):
    model, encoder = Watched(BERT4REC, log.n_items, 0.0), Encoder(log, CPU)
    users = np.repeat(np.flatnonzero(np.diff(log.offsets) > 8), 40)
    starts, lengths = log.offsets[users], np.full(len(users), 8, np.int32)
    rng = np.random.default_rng(0)
    hidden, targets = fitting._masked(model, encoder, starts, lengths, TrainConfig(mask_last=share), rng)
    masks = torch.cat([F.pad(masked, (0, 8 - masked.shape[1])) for masked, _ in model.asked])
    lengths_seen = torch.cat([lengths for _, lengths in model.asked])
    assert len(hidden) == len(targets) == int(masks.sum()) and bool(masks.any(1).all())
    assert not (masks & (torch.arange(8) >= lengths_seen[:, None])).any()
    if share:
        assert (masks.sum(1) == 1).all() and (masks.int().argmax(1) == lengths_seen - 1).all()
        assert set(lengths_seen.tolist()) == set(range(2, 9))
    else:
        assert (lengths_seen == 8).all()
        at_random = 0.2 + 0.8**8 / 8  # one at least
        assert float(masks.double().mean()) == pytest.approx(at_random, abs=0.02)
    shown = torch.cat([F.pad(items, (0, 8 - items.shape[1])) for items in model.shown])
    assert torch.equal(targets, shown[masks] - 1)
