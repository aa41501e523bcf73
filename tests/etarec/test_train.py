"""Training: the checkpoint of the best epoch, the seed, the training split and the cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from etarec import train
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import stream
from etarec.disk import file_sha256
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.fitting import Epoch
from etarec.metrics import quality

CPU = torch.device("cpu")
QUICK = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02, dropout=0.1)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "default_device", lambda: CPU)


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


def test_a_rehearsal_trains_as_long_as_the_search_s_own_checkpoint_at_least(log, model_config, cache):
    epochs: list[Epoch] = []
    impatient = replace(QUICK, epochs=9, patience=1, learning_rate=1e-9)
    train.load_or_train(log, model_config, impatient, epochs.append)
    alone = len(epochs)
    trained, path = train.load_or_train(log, model_config, impatient, epochs.append, 7)
    assert alone < 7 <= len(epochs) - alone
    assert path == train.cache_path(log, model_config, impatient, rehearsal=True) and trained.train == impatient


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
    assert train.cache_path(*variants[0], rehearsal=True) not in paths
    monkeypatch.setattr(train, "RECIPE", train.RECIPE + 1)
    assert train.cache_path(*variants[0]) not in paths


def test_the_default_cache_is_a_hidden_folder_in_the_current_one(log, monkeypatch, tmp_path):
    monkeypatch.delenv("ETAREC_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert train.cache_path(log, ModelConfig(), TrainConfig()).parent == tmp_path / ".cache" / "etarec"


def test_the_cache_may_lie_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ETAREC_CACHE", "~/c")
    assert train.cache_folder() == tmp_path / "c"


def test_an_empty_cache_is_an_error(monkeypatch):
    monkeypatch.setenv("ETAREC_CACHE", "")
    with pytest.raises(UserError, match="ETAREC_CACHE: given an empty text, expected a folder"):
        train.cache_folder()


def test_a_checkpoint_that_could_not_be_kept_is_not_trained(log, model_config, cache, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("trained in vain"))
    cache.symlink_to("gone")
    with pytest.raises(UserError, match=r"ETAREC_CACHE: .*/cache is a symbolic link that leads nowhere"):
        train.load_or_train(log, model_config, QUICK, lambda epoch: None)


def test_the_cache_is_tried_with_the_size_of_the_checkpoint(log, model_config, cache, monkeypatch):
    sizes = []
    monkeypatch.setattr(train, "check_folder", lambda folder, flag, size: sizes.append(size))
    _, path = train.load_or_train(log, model_config, QUICK, lambda epoch: None)
    assert sizes[0] == pytest.approx(path.stat().st_size, rel=0.2)
