"""Measurements: complete, repeatable, and leaving the checkpoint alone."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from etarec import checkpoint
from etarec.adapt.shared_passes import SharedPasses
from etarec.config import SKIPPED, AdaptConfig, Reason
from etarec.data import stream
from etarec.encode import Encoder
from etarec.evaluate import SEGMENTS, Measurement, measure
from etarec.metrics import COSTS, QUALITY_METRICS, SECONDS

SKIPPED_COLUMNS = [reason.column for reason in SKIPPED]
CPU = torch.device("cpu")
MOVING = {"batch_size": 32, "learning_rate": 0.03, "top_k": 5, "entropy_quantile": 0.8, "cosine_threshold": 0.8}
CONFIGS = [
    AdaptConfig(target="none"),
    AdaptConfig(target="state", **MOVING),
    AdaptConfig(**MOVING),
    AdaptConfig(**{**MOVING, "top_k": None}, objective="entropy", serve="after", optimizer="sgd"),
    AdaptConfig(**MOVING, gate="random", parameters="projections"),
]


@pytest.fixture
def measured(log, frozen):
    def run(config, model=None, seed=0, order="position", split="test"):
        return measure(model or frozen.restore(CPU), Encoder(log, CPU), stream(log, split, order, 0), config, seed)

    return run


def same(one: Measurement, other: Measurement) -> bool:
    return np.array_equal(one.ranks, other.ranks) and np.array_equal(one.reasons, other.reasons)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.target}-{config.objective}-{config.gate}")
def test_a_measurement_is_the_same_alone_and_after_others(measured, frozen, config):
    alone = measured(config)
    assert same(alone, measured(config))
    resident = frozen.restore(CPU)
    for other in (*CONFIGS, config):
        frozen.reset(resident)
        last = measured(other, resident)
    assert same(alone, last)


def test_a_search_leaves_the_checkpoints_bytes_alone(measured, frozen, tmp_path: Path):
    path = tmp_path / "frozen.safetensors"
    checkpoint.write(frozen, path)
    before, stored = path.read_bytes(), checkpoint.read(path)
    weights = {name: array.copy() for name, array in stored.weights.items()}
    model = stored.restore(CPU)
    for config in CONFIGS:
        stored.reset(model)
        measured(config, model)
    assert any(not np.array_equal(tensor.numpy(), weights[name]) for name, tensor in model.state_dict().items())
    assert path.read_bytes() == before
    assert all(np.array_equal(stored.weights[name], array) for name, array in weights.items())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.target}-{config.objective}-{config.gate}")
@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_sample_is_counted_once(measured, log, config, split):
    found = measured(config, split=split)
    samples = stream(log, split, "position", 0)
    assert np.array_equal(found.users, samples.users) and len(found.ranks) == len(found.admitted) == len(samples)
    assert (found.ranks >= 0).all() and (found.ranks < log.n_items - 1).all()
    metrics = found.metrics()
    assert set(metrics) == {*QUALITY_METRICS, "filter_rate", *SKIPPED_COLUMNS, *COSTS, *SECONDS}
    assert metrics["filter_rate"] == pytest.approx(1 - found.admitted.mean())
    if config.target == "none":
        assert metrics["filter_rate"] == 1 and (found.reasons == Reason.NOT_ASKED).all()
    else:
        assert set(found.reasons) <= {Reason.ADMITTED, *SKIPPED}
        assert sum(metrics[name] for name in SKIPPED_COLUMNS) == pytest.approx(metrics["filter_rate"])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.target}-{config.objective}-{config.gate}")
def test_seconds_of_the_parts_are_within_those_of_the_whole(measured, config):
    begin = time.perf_counter()
    seconds = measured(config).seconds
    elapsed = time.perf_counter() - begin
    parts = {name: seconds[f"{name}_seconds"] for name in ("forward", "gate", "adapt")}
    assert 0 < sum(parts.values()) <= seconds["seconds"] <= elapsed
    assert parts["forward"] > 0
    assert (parts["gate"] > 0) == (parts["adapt"] > 0) == (config.target != "none")


def test_a_frozen_model_ranks_alike_in_every_order(measured, log):
    by_place = {}
    for order in ("user", "position", "shuffled"):
        samples = stream(log, "test", order, 0)
        ranks = measured(AdaptConfig(target="none"), order=order).ranks
        by_place[order] = ranks[np.lexsort((samples.positions, samples.users))].tolist()
    assert by_place["user"] == by_place["position"] == by_place["shuffled"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.target}-{config.objective}-{config.gate}")
def test_a_constant_model_scores_nothing(measured, frozen, log, config):
    model = frozen.restore(CPU)
    with torch.no_grad():
        model.items.weight.zero_()
    found = measured(replace(config, learning_rate=1e-30), model)
    assert (found.ranks == log.n_items - 2).all()
    assert all(found.metrics()[name] == 0 for name in QUALITY_METRICS)


def test_a_model_that_diverges_has_no_quality(measured):
    found = measured(AdaptConfig(**{**MOVING, "learning_rate": 1e30, "weighting": "none"}, gate="open"))
    assert not found.finite
    assert all(np.isnan(found.metrics()[name]) for name in QUALITY_METRICS)
    assert np.isfinite(found.metrics()["filter_rate"])
    assert (found.ranks[-32:] == 69).all()


def test_a_gate_at_random_depends_on_the_seed(measured):
    config = CONFIGS[-1]
    assert not np.array_equal(measured(config, seed=0).admitted, measured(config, seed=1).admitted)
    assert same(measured(CONFIGS[2], seed=0), measured(CONFIGS[2], seed=1))


def test_curve_has_equal_segments_along_the_stream():
    ranks = np.array([0] * 60 + [10] * 40, np.int32)
    reasons = np.tile([Reason.ADMITTED, Reason.CHANCE], 50)
    curve = Measurement(np.zeros(100, np.int32), ranks, reasons, {}).curve("hr_at_10")
    assert curve["samples"] == [5.0 * n for n in range(1, 21)]
    assert curve["hr_at_10"] == [1.0] * 12 + [0.0] * 8
    assert curve["filter_rate"] == pytest.approx([0.4, 0.6] * 10)
    short = Measurement(np.zeros(3, np.int32), ranks[:3], reasons[:3], {}).curve("ndcg_at_50")
    assert short == {"samples": [1.0, 2.0, 3.0], "ndcg_at_50": [1.0] * 3, "filter_rate": [0.0, 1.0, 0.0]}


def test_a_watcher_sees_every_segment_and_changes_nothing(log, frozen) -> None:
    validation, model, encoder = stream(log, "valid", "position", 0), frozen.restore(CPU), Encoder(log, CPU)
    shared = SharedPasses(model, encoder, validation, ("watched",), None)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def watch(users, ranks, admitted, samples) -> None:
        assert samples == len(validation) and (users == validation.users[: len(ranks)]).all()
        seen.append((ranks, admitted))

    def end(*_: object) -> None:
        raise RuntimeError("enough")

    alone = measure(model, encoder, validation, AdaptConfig(**MOVING), 0, shared)
    frozen.reset(model)
    watched = measure(model, encoder, validation, AdaptConfig(**MOVING), 0, shared, watch)
    assert same(alone, watched)
    assert len(seen) == min(SEGMENTS, -(-len(validation) // MOVING["batch_size"])) - 1
    for ranks, admitted in seen:
        assert (ranks == watched.ranks[: len(ranks)]).all() and (admitted == watched.admitted[: len(ranks)]).all()
    with pytest.raises(RuntimeError, match="enough"):
        measure(model, encoder, validation, AdaptConfig(**MOVING), 0, shared, end)
