"""The checks before anything is trained, and the data and checkpoint with which a search then runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import TINY

from etarec.config import UserError
from etarec.train import cache_path
from search import dry_run, prepare
from search.experiment import Experiment
from search.records.provenance import settings
from search.records.records import Records
from search.running.learning import default_trials
from search.running.plan import Machine
from search.spec import load, to_yaml
from search.warm_start import Folders, start

EXPERIMENT = {**TINY, "data": {**TINY["data"], "rehearsal_share": None}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "load_or_train", lambda *given: pytest.fail("trained"))


def experiment_of(folder: Path, *changes: str, resume: bool = False) -> Experiment:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    return Experiment(load(file, changes), folder / "out", resume=resume, file=file)


def test_a_search_has_the_data_and_the_cached_checkpoint(tmp_path: Path) -> None:
    first = prepare.prepare(experiment_of(tmp_path))
    ran = experiment_of(tmp_path)
    again = prepare.prepare(ran)
    assert again.checkpoint.sha256 == first.checkpoint.sha256 and again.rehearsal is None
    assert again.data.sha256 == ran.provenance.data["sha256"]
    assert ran.provenance.checkpoint["path"] == str(next((tmp_path / "cache").glob("*.safetensors")))
    assert again.cache == tmp_path / "cache" and {"data", "train"} <= ran.provenance.seconds.keys()


def test_a_given_checkpoint_is_one_of_these_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = prepare.prepare(experiment_of(tmp_path)).checkpoint
    file = str(next((tmp_path / "cache").glob("*.safetensors")))
    monkeypatch.setattr(prepare, "load_or_train", lambda *given: pytest.fail("trained"))
    document = {name: section for name, section in EXPERIMENT.items() if name not in ("model", "train")}
    given = tmp_path / "given.yaml"
    given.write_text(yaml.safe_dump({**document, "checkpoint": file}))
    assert prepare.prepare(Experiment(load(given), tmp_path / "out")).checkpoint.sha256 == trained.sha256
    other = Experiment(load(given, ["data.simulation.seed=1"]), tmp_path / "out")
    with pytest.raises(UserError, match=f"^{file}: "):
        prepare.prepare(other)


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_step_that_the_model_does_not_offer_is_known_before_training(tmp_path: Path) -> None:
    changes = ("model={name: gru4rec, width: 8}", "space.filtered.choices=[output, mlp]")
    with pytest.raises(UserError, match=r"space.yaml: space.filtered.choices: given mlp, which GRU4Rec does not offer"):
        prepare.prepare(experiment_of(tmp_path, *changes))


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("space.top_k.high=900", "space.top_k.high: given 900, expected at most 54"),
        ("search.gpus_per_trial=64", "search.gpus_per_trial: given 64, expected at most"),
    ],
)
def test_a_spec_that_does_not_fit_is_named_with_its_file(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=f"space.yaml: {message}"):
        prepare.prepare(experiment_of(tmp_path, change))


@pytest.mark.usefixtures("nothing_is_trained")
def test_another_problem_stops_a_warm_start_before_it_trains(tmp_path: Path) -> None:
    for folder in ("earlier", "out"):
        (tmp_path / folder).mkdir()
    settings = {"data sha256": "of another log", "space.top_k.low": 2, "search.objectives": ["hr_at_10", "filter_rate"]}
    Records(tmp_path / "earlier").begin(settings)
    ran = replace(experiment_of(tmp_path), earlier=Folders((tmp_path / "earlier",)))
    with pytest.raises(UserError, match='earlier: its problem is another one; data sha256: there "of another log", '):
        prepare.prepare(ran)
    Records(tmp_path / "out").begin(settings)
    with pytest.raises(UserError, match="began without it; leave it out with --resume"):
        prepare.prepare(replace(ran, resume=True))


def test_a_search_on_the_same_problem_may_be_taken(tmp_path: Path) -> None:
    first = experiment_of(tmp_path)
    prepare.prepare(first)
    (tmp_path / "earlier").mkdir()
    records = Records(tmp_path / "earlier")
    records.begin(settings(first.spec, first.provenance))
    records.started(0, {"top_k": 7})
    records.finished(0, {"hr_at_10": 0.5, "filter_rate": 0.5}, {})
    ran = replace(experiment_of(tmp_path, "search.seed=1"), earlier=Folders((tmp_path / "earlier",)))
    prepare.prepare(ran)
    taken = start(ran.spec, settings(ran.spec, ran.provenance), ran.earlier).trials
    assert [trial.parameters for trial in taken] == [{"top_k": 7}]


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_change_stops_a_resumed_search_before_it_trains(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    Records(tmp_path / "out").begin({"data sha256": "of another log", "space.top_k.low": 2})
    with pytest.raises(UserError, match="data sha256: was of another log, now "):
        prepare.prepare(experiment_of(tmp_path, resume=True))


def test_the_plan_fits_the_machine(tmp_path: Path) -> None:
    planned = prepare.plan_on(experiment_of(tmp_path, "search.trials=3"), Machine(cores=8))
    assert (planned.concurrency, planned.threads_per_trial) == (3, 1)


@pytest.mark.usefixtures("nothing_is_trained")
def test_another_checkpoint_stops_a_resumed_search_and_its_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = experiment_of(tmp_path, resume=True)
    interactions, _ = prepare.load_data(experiment_of(tmp_path))
    ran.provenance.data = {"sha256": interactions.sha256}
    (tmp_path / "out").mkdir()
    Records(ran.directory).begin(settings(ran.spec, ran.provenance) | {"checkpoint sha256": "of another"})
    monkeypatch.setattr(dry_run, "train", lambda *given: pytest.fail("trained"))
    path = cache_path(interactions, ran.spec.model, ran.spec.train)
    path.parent.mkdir()
    path.write_text("another model")
    for begin in (prepare.prepare, dry_run.dry_run):
        with pytest.raises(UserError, match="checkpoint sha256: was of another, now "):
            begin(experiment_of(tmp_path, resume=True))
    path.unlink()
    prepare.load_data(experiment_of(tmp_path, resume=True))  # it is compared once it has been trained


def test_the_plan_settles_how_many_trials_there_are(tmp_path: Path) -> None:
    begun, resumed = experiment_of(tmp_path), experiment_of(tmp_path, resume=True)
    assert begun.spec.search.trials == "auto"
    planned = prepare.plan_on(begun, Machine(cores=8))
    assert begun.spec.search.trials == default_trials("auto", len(EXPERIMENT["space"]), 8) and planned.concurrency == 8
    begun.directory.mkdir()
    (begun.directory / "spec.yaml").write_text(to_yaml(begun.spec))
    prepare.plan_on(resumed, Machine(cores=2))
    assert resumed.spec.search.trials == begun.spec.search.trials
