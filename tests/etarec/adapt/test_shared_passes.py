"""Shared passes equal those of serving, and do not depend on the contents of the cache."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from etarec import data, disk, evaluate, scoring
from etarec.adapt.shared_passes import SharedPasses
from etarec.adapt.transitions import Observed
from etarec.config import AdaptConfig
from etarec.encode import Encoder
from etarec.evaluate import Measurement

CPU = torch.device("cpu")
GATED = {"feedback": "next_request", "batch_size": 16, "top_k": 5, "entropy_quantile": 0.7, "cosine_threshold": 0.8}
STATE = {"target": "state", **GATED}
CONFIGS = [
    AdaptConfig(target="none"),
    AdaptConfig(**STATE),
    AdaptConfig(**STATE, weighting="none"),
    AdaptConfig(**{**STATE, "top_k": None}, weighting="none", admit="uncertain"),
    AdaptConfig(**STATE, gate="open"),
    AdaptConfig(**STATE, gate="random"),
    AdaptConfig(**GATED, learning_rate=0.03),
    AdaptConfig(**{**GATED, "feedback": "immediate"}, learning_rate=0.03),
    AdaptConfig(**{**GATED, "feedback": "immediate"}, learning_rate=0.03, criterion="loss", filtered="mlp"),
    AdaptConfig(**GATED, learning_rate=0.03, filtered="residual", transitions="pending"),
    AdaptConfig(**GATED, learning_rate=0.03, serve="after", objective="entropy"),
    AdaptConfig(**GATED, learning_rate=0.03, criterion="loss", average_over="all", serve="after"),
    AdaptConfig(**GATED, learning_rate=0.03, gate="open", transitions="pending"),
    AdaptConfig(**{**GATED, "batch_size": 5000}, gate="open", new_transitions_only=False),
]


NAMING = ("target", "feedback", "filtered", "gate", "criterion", "weighting", "top_k", "objective", "transitions")


def named(config: AdaptConfig) -> str:
    return "-".join(map(str, (*(getattr(config, name) for name in NAMING), config.batch_size)))


@pytest.fixture
def passes(log, frozen):
    def make(folder: Path | None = None, order="position", weights="these", checkpoint=frozen) -> SharedPasses:
        samples = data.stream(log, "valid", order, 0)
        return SharedPasses(checkpoint.restore(CPU), Encoder(log, CPU), samples, (weights, log.sha256), folder)

    return make


def measure(config: AdaptConfig, looked_up: SharedPasses, checkpoint) -> Measurement:
    checkpoint.reset(looked_up.model)
    return evaluate.measure(looked_up.model, looked_up.encoder, looked_up.stream, config, 3, looked_up)


def numbers(found: Measurement) -> tuple:
    return found.ranks.tolist(), found.reasons.tolist()


def artifacts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_a_look_up_is_the_stream_served(passes, frozen, config: AdaptConfig) -> None:
    looked_up = passes()
    found = measure(config, looked_up, frozen)
    frozen.reset(looked_up.model)
    served = evaluate.measure(looked_up.model, looked_up.encoder, looked_up.stream, config, 3)
    assert found.reasons.tolist() == served.reasons.tolist()
    assert (found.ranks != served.ranks).mean() < 0.02  # rounding may turn two scores that are nearly the same
    assert found.metrics()["hr_at_10"] == served.metrics()["hr_at_10"]
    assert found.users is looked_up.stream.users and found.finite


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_cached_and_uncached_are_identical(passes, frozen, tmp_path: Path, config: AdaptConfig) -> None:
    expected = numbers(measure(config, passes(), frozen))
    cold, warm = passes(tmp_path), passes(tmp_path)
    assert numbers(measure(config, cold, frozen)) == expected
    assert artifacts(tmp_path)
    assert numbers(measure(config, warm, frozen)) == expected
    assert numbers(measure(config, warm, frozen)) == expected
    for place in artifacts(tmp_path):
        files = list(place.glob("*.npy"))
        assert files
        for file in files:
            file.unlink()
    assert numbers(measure(config, passes(tmp_path), frozen)) == expected


def test_a_warm_look_up_runs_the_model_for_weighted_samples_only(passes, frozen, tmp_path, monkeypatch) -> None:
    for config in CONFIGS:
        measure(config, passes(tmp_path), frozen)
    encoded = []
    hidden = Encoder.hidden

    def counting(encoder, model, starts, ends, *rest):
        encoded.append(len(starts))
        return hidden(encoder, model, starts, ends, *rest)

    monkeypatch.setattr(Encoder, "hidden", counting)
    for config in CONFIGS[2:6] + CONFIGS[:1]:
        measure(config, passes(tmp_path), frozen)
    assert encoded == []
    weighted = measure(CONFIGS[1], passes(tmp_path), frozen)
    assert sum(encoded) == weighted.admitted.sum() > 0
    encoded.clear()
    one_batch = measure(CONFIGS[-1], passes(tmp_path), frozen)
    assert encoded == [one_batch.admitted.sum()]  # the step's own pass


@pytest.mark.parametrize(
    "config",
    [
        c
        for c in CONFIGS
        if c.target == "weights" and c.serve == "before" and c.feedback == "next_request" and c.filtered == "nothing"
    ],
    ids=named,
)
def test_before_anything_can_be_learned_the_model_serves_from_the_look_up(
    passes, frozen, tmp_path, config, monkeypatch
):
    """Up to the first batch that offers a transition, whatever the gate makes of it."""
    measure(config, passes(tmp_path), frozen)
    served, scanned = [], []
    hidden, scan = Encoder.hidden, scoring.scan

    def counting(encoder, model, starts, ends, *rest):
        if not torch.is_grad_enabled():
            served.append(len(starts))
        return hidden(encoder, model, starts, ends, *rest)

    looked_up = passes(tmp_path)
    samples, size = looked_up.stream, config.batch_size
    observed, ahead = Observed(looked_up.encoder, samples, config), len(samples)
    for start in range(0, len(samples), size):
        rows = slice(start, min(start + size, len(samples)))
        observed.settle(rows)  # as each of these configurations serves before it learns
        if config.objective == "entropy" or not observed.offer(rows).nothing_to_learn(len(samples.users[rows])).all():
            ahead -= rows.stop
            break
    monkeypatch.setattr(Encoder, "hidden", counting)
    monkeypatch.setattr(scoring, "scan", lambda h, *rest: (scanned.append(len(h)), scan(h, *rest))[1])
    measure(config, looked_up, frozen)
    assert sum(served) == ahead < len(samples)
    assert sum(scanned) <= ahead + 2 * size  # the Top-K of the first batch, and of the first to learn from


def damage_byte(place: Path) -> None:
    file = place / "hidden.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def claim_other_key(place: Path) -> None:
    manifest = json.loads((place / disk.MANIFEST).read_text())
    (place / disk.MANIFEST).write_text(json.dumps({**manifest, "key": ["another"]}))


def claim_other_shape(place: Path) -> None:
    np.save(place / "hidden.npy", np.zeros((3, 2), np.float32))
    key = json.loads((place / disk.MANIFEST).read_text())["key"]
    (place / disk.MANIFEST).write_text(json.dumps(disk._manifest(place, key)))


def become_a_file(place: Path) -> None:
    disk._remove(place)
    place.write_text("no artifact")


DAMAGES = {
    "byte": damage_byte,
    "truncated": lambda place: os.truncate(place / "hidden.npy", 200),
    "no ranks": lambda place: (place / "ranks.npy").unlink(),
    "no manifest": lambda place: (place / disk.MANIFEST).unlink(),
    "broken manifest": lambda place: (place / disk.MANIFEST).write_bytes(b"\xff{"),
    "foreign key": claim_other_key,
    "foreign shape": claim_other_shape,
    "a file": become_a_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_computed_again(passes, frozen, tmp_path: Path, damage: str) -> None:
    config = CONFIGS[1]
    expected = numbers(measure(config, passes(tmp_path), frozen))
    (place,) = artifacts(tmp_path)
    kept = {path.name: path.read_bytes() for path in place.iterdir()}
    DAMAGES[damage](place)
    assert numbers(measure(config, passes(tmp_path), frozen)) == expected
    assert {path.name: path.read_bytes() for path in place.iterdir()} == kept
    assert len(list(tmp_path.iterdir())) == 2  # the artifact and its lock


@pytest.mark.parametrize("config", [CONFIGS[2], CONFIGS[6]], ids=named)
def test_a_folder_that_cannot_be_written_costs_the_cache_only(passes, frozen, tmp_path, config, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    expected = numbers(measure(config, passes(), frozen))
    assert numbers(measure(config, passes(tmp_path / "file" / "cache"), frozen)) == expected

    def full(path, array, **options):
        Path(path).write_bytes(b"a part")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    assert numbers(measure(config, passes(tmp_path / "full"), frozen)) == expected
    assert artifacts(tmp_path / "full") == []


def test_nothing_is_shared_by_other_weights_orders_or_threads(passes, tmp_path: Path) -> None:
    for variant in ({}, {"weights": "those"}, {"order": "shuffled"}, {}):
        assert len(passes(tmp_path, **variant).ranks) == len(passes().ranks)
    assert len(artifacts(tmp_path)) == 3
    torch.set_num_threads(2)
    try:
        assert passes(tmp_path).ranks.shape == passes().ranks.shape
    finally:
        torch.set_num_threads(1)
    assert len(artifacts(tmp_path)) == 4
