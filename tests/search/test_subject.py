"""A trial starts from the checkpoint, whatever was measured before, and its numbers are finite."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from formula import Formula

from etarec import data
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, DataConfig, ModelConfig, SimulationConfig, TrainConfig
from etarec.data import Interactions
from etarec.encode import Encoder
from etarec.evaluate import Measurement
from etarec.models import build
from search import subject as trial
from search.spec import load, trial_seed
from search.subject import NotFiniteError, Recommender, Serving, finite, job_of, measure_on_validation

ADAPTING = AdaptConfig(gate="open", learning_rate=0.1, batch_size=64)


@pytest.fixture(scope="module", name="log")
def made_log() -> Interactions:
    return make_log()


def make_log() -> Interactions:
    simulation = SimulationConfig(users=60, items=80)
    return data.load(DataConfig(dataset="simulated", simulation=simulation, k_core=0, max_length=10))


def checkpoint_of(log: Interactions, seed: int) -> Checkpoint:
    config = ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=16)
    torch.manual_seed(seed)
    weights = {name: weight.numpy() for name, weight in build(config, log.n_items).state_dict().items()}
    return Checkpoint(config, TrainConfig(), weights, log.vocabulary, log.sha256, 1, {}, sha256=f"of seed {seed}")


@pytest.fixture
def recommender(log: Interactions) -> Recommender:
    return Recommender(log, checkpoint_of(log, 0), "position", 0)


def same(one: Measurement, other: Measurement) -> bool:
    return np.array_equal(one.ranks, other.ranks) and np.array_equal(one.admitted, other.admitted)


def test_every_measurement_starts_from_the_frozen_weights(recommender: Recommender) -> None:
    before = {name: array.copy() for name, array in recommender.checkpoint.weights.items()}
    trial._RESIDENT.clear()
    frozen = measure_on_validation(recommender, AdaptConfig(target="none"), 0, threads=1)
    adapted = measure_on_validation(recommender, ADAPTING, 0, threads=1)
    assert not same(frozen, adapted)
    assert same(measure_on_validation(recommender, ADAPTING, 0, threads=1), adapted)
    assert same(measure_on_validation(recommender, AdaptConfig(target="none"), 0, threads=1), frozen)
    assert all(np.array_equal(before[name], array) for name, array in recommender.checkpoint.weights.items())


def test_the_cost_is_that_of_serving_relative_to_adapting_on_everything(recommender: Recommender) -> None:
    serving, frozen = Serving(ADAPTING, 0.5), AdaptConfig(target="none")
    before = {name: array.copy() for name, array in recommender.checkpoint.weights.items()}
    measured = measure_on_validation(recommender, frozen, 0, threads=1, serving=serving)
    assert 0 < measured.metrics()["cost"] < 0.5
    assert np.median([recommender.cost(ADAPTING, 0, serving) for _ in range(5)]) == pytest.approx(1, abs=0.5)
    assert same(measured, measure_on_validation(recommender, frozen, 0, threads=1))
    assert "cost" not in measure_on_validation(recommender, frozen, 0, threads=1).metrics()
    assert all(np.array_equal(before[name], array) for name, array in recommender.checkpoint.weights.items())


def test_only_a_search_by_cost_measures_it(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for search, measures in (("{}", False), ("{objectives: [hr_at_10, filter_rate, cost]}", True)):
        file.write_text(f"space: {{learning_rate: {{low: 0.001, high: 0.1}}}}\nsearch: {search}\n")
        spec = load(file)
        work = job_of(spec, spec.adapt)
        assert work.seed == trial_seed(0, spec.adapt) and (work.serving is not None) is measures
    assert work.serving is not None
    assert (work.serving.everything.gate, work.serving.share) == ("open", 0.1)


def test_a_process_keeps_one_model_and_knows_whose_it_is(recommender: Recommender, log: Interactions) -> None:
    frozen = AdaptConfig(target="none")
    trial._RESIDENT.clear()
    first = measure_on_validation(recommender, frozen, 0, threads=1)
    resident = trial._resident(recommender)
    measure_on_validation(recommender, frozen, 0, threads=1)
    assert trial._resident(recommender) is resident
    other = Recommender(log, checkpoint_of(log, 1), "position", 0)
    assert not same(measure_on_validation(other, frozen, 0, threads=1), first)
    assert len(trial._RESIDENT) == 1
    assert same(measure_on_validation(recommender, frozen, 0, threads=1), first)


def test_validation_is_the_same_for_a_worker_that_does_not_hold_test(recommender: Recommender) -> None:
    worker = recommender.without_test()
    assert worker.data.n_interactions < recommender.data.n_interactions
    assert same(
        measure_on_validation(worker, ADAPTING, 0, threads=1),
        measure_on_validation(recommender, ADAPTING, 0, threads=1),
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_ends_the_trial(number: float) -> None:
    measured = Formula().measure(AdaptConfig(), "valid", 0)
    assert finite(measured) is measured
    measured.seconds["gate_seconds"] = number
    with pytest.raises(NotFiniteError, match=f"^gate_seconds is {number}$"):
        finite(measured)


def test_a_model_that_diverged_has_no_quality(recommender: Recommender) -> None:
    diverging = AdaptConfig(gate="open", optimizer="sgd", learning_rate=1e30, batch_size=64)
    with pytest.raises(NotFiniteError, match=r"^hr_at_10 is nan$"):
        measure_on_validation(recommender, diverging, 0, threads=1)
    assert finite(recommender.measure(AdaptConfig(target="none"), "valid", 0))  # and leaves nothing behind


def test_a_trial_uses_the_threads_it_was_given() -> None:
    threads = torch.get_num_threads()
    try:
        measure_on_validation(Formula(), AdaptConfig(), 0, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


CONFIGS = [
    AdaptConfig(target="none"),
    AdaptConfig(target="state", gate="open"),
    AdaptConfig(target="state", weighting="none", top_k=5),
    AdaptConfig(target="state", top_k=5),
    ADAPTING,
]


def measured_numbers(recommender: Recommender) -> list[list[int]]:
    """Ranks, decisions and counts of each configuration, in a process that has measured nothing yet."""
    trial._RESIDENT.clear()
    found = [measure_on_validation(recommender, config, 0, threads=1) for config in CONFIGS]
    return [[*each.ranks.tolist(), *each.reasons.tolist()] for each in found]


def test_a_trial_is_the_same_with_and_without_a_cache_and_in_another_process(
    recommender: Recommender, tmp_path: Path
) -> None:
    expected = measured_numbers(recommender)
    cached = replace(recommender.without_test(), cache=tmp_path / "cache")
    assert measured_numbers(cached) == measured_numbers(recommender.without_test()) == expected
    written = {path: path.stat().st_ino for path in (tmp_path / "cache").glob("*/*")}
    assert sum(path.suffix == ".npy" for path in written) == 5  # ranks; twice hidden states and ranks
    assert measured_numbers(cached) == expected
    other = subprocess.run([sys.executable, __file__, str(tmp_path / "cache")], capture_output=True, text=True)
    assert json.loads(other.stdout) == expected, other.stderr
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").glob("*/*")} == written  # nobody wrote again
    shutil.rmtree(tmp_path / "cache")
    assert measured_numbers(cached) == expected


def test_weights_without_a_name_are_not_kept(recommender: Recommender, tmp_path: Path) -> None:
    unnamed = replace(recommender.checkpoint, sha256="")
    measured_numbers(replace(recommender, checkpoint=unnamed, cache=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_only_validation_is_looked_up(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    measure = trial.measure

    def watched(model, encoder, samples, config, seed, shared=None, watch=None):
        given.append(shared is not None)
        return measure(model, encoder, samples, config, seed, shared, watch)

    monkeypatch.setattr(trial, "measure", watched)
    for split in ("valid", "test", "train"):
        recommender.measure(CONFIGS[2], split, 0)
    assert given == [True, False, False]


if __name__ == "__main__":
    here = make_log()
    worker = Recommender(here.without_test(), checkpoint_of(here, 0), "position", 0, Path(sys.argv[1]))
    print(json.dumps(measured_numbers(worker)))


def test_unnamed_weights_and_other_timestamps_are_not_taken_for_those_before(log: Interactions) -> None:
    """The look-up serves one trial after another, but no other order in time and no checkpoint without a sha256."""
    still = AdaptConfig(target="none")
    unnamed = [Recommender(log, replace(checkpoint_of(log, seed), sha256=""), "position", 0) for seed in (0, 1)]
    assert log.timestamps is not None
    later = replace(log, timestamps=log.timestamps[::-1].copy())
    in_time = [Recommender(each, checkpoint_of(log, 0), "time", 0) for each in (log, later)]
    for pair in (unnamed, in_time):
        alone = []
        for subject in pair:
            trial._RESIDENT.clear()
            alone.append(measure_on_validation(subject, still, 0, threads=1))
        assert not same(*alone) or not np.array_equal(alone[0].users, alone[1].users)
        for subject, expected in zip(pair, alone, strict=True):
            again = measure_on_validation(subject, still, 0, threads=1)
            assert same(again, expected) and np.array_equal(again.users, expected.users)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_prepared_is_not_computed_by_the_first_trial(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch, config: AdaptConfig
) -> None:
    trial._RESIDENT.clear()
    expected = recommender.measure(config, "valid", 0)
    trial._RESIDENT.clear()
    trial.prepare(recommender, config, 0, threads=1)
    monkeypatch.setattr("etarec.adapt.shared_passes.look_up", lambda *given: pytest.fail("computed by the trial"))
    assert same(measure_on_validation(recommender, config, 0, threads=1), expected)


def test_warming_up_leaves_no_trace(log: Interactions, recommender: Recommender) -> None:
    model, encoder = recommender.checkpoint.restore(torch.device("cpu")), Encoder(log, torch.device("cpu"))
    trial.warm_up(model, encoder)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), recommender.checkpoint.weights[name])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_serving_looks_nothing_up(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = recommender.measure(AdaptConfig(target="none"), "valid", 0)
    encoded, hidden = [], Encoder.hidden
    monkeypatch.setattr(Encoder, "hidden", lambda *given, **named: encoded.append(1) or hidden(*given, **named))
    assert recommender.measure(AdaptConfig(target="none"), "valid", 0).metrics()["hr_at_10"] and not encoded
    served = recommender.serve(AdaptConfig(target="none"), "valid", 0)
    assert encoded and served.metrics()["hr_at_10"] == looked_up.metrics()["hr_at_10"]


def test_a_search_measures_the_rehearsal_and_test_the_checkpoint(log: Interactions, recommender: Recommender) -> None:
    held_out = data.rehearsal(log, DataConfig(dataset="simulated"), 0.4)
    rehearsal = Recommender(held_out, replace(checkpoint_of(log, 1), data_sha256=held_out.sha256), "position", 0)
    both = replace(recommender, rehearsal=rehearsal)
    searched = both.without_test()
    assert same(
        measure_on_validation(searched, ADAPTING, 0, threads=1), measure_on_validation(rehearsal, ADAPTING, 0, 1)
    )
    assert searched.data.n_interactions == log.without_test().n_interactions < log.n_interactions
    assert same(both.measure(ADAPTING, "test", 0), recommender.measure(ADAPTING, "test", 0))
