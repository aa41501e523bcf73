"""Training reads its sections of an experiment file and words its messages as a search does."""

from pathlib import Path

import pytest

from etarec import experiment_file
from etarec.config import DataConfig, ModelConfig, TrainConfig, UserError
from etarec.experiment_file import TrainingSpec, check_folder, load_training
from search.spec import Spec, load, to_yaml

SPACE = "space: {top_k: {low: 2, high: 9}}\n"


def failure(read, path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(path, overrides)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "space.yaml"


def test_the_sections_of_training_are_read_with_absolute_paths(file: Path) -> None:
    file.write_text("data: {path: logs/a.csv, k_core: 3}\nmodel: {width: 32}\ntrain:\n  # epochs: 3\n")
    assert load_training(file, ["train.epochs=7"]) == TrainingSpec(
        data=DataConfig(path=str(file.parent / "logs/a.csv"), k_core=3),
        model=ModelConfig(width=32),
        train=TrainConfig(epochs=7),
    )


def test_defaults_are_those_of_a_search(file: Path) -> None:
    file.write_text(SPACE)
    spec, trained = load(file), load_training(file)
    assert (trained.data, trained.model, trained.train) == (spec.data, spec.model, spec.train)


def test_sections_that_only_a_search_needs_are_ignored(file: Path) -> None:
    file.write_text("name: a/b\nadapt: {top_k: many}\nspace: 5\nsearch: [1]\nbaselines: {}\ncheckpoint: null\n")
    assert load_training(file) == TrainingSpec(data=DataConfig(dataset="simulated"))


def test_the_spec_yaml_of_a_search_trains_the_same_model(file: Path) -> None:
    spec = Spec(name="x", model=ModelConfig(width=32), train=TrainConfig(epochs=3), space=load_space(file))
    file.write_text(to_yaml(spec))
    assert load_training(file) == TrainingSpec(data=spec.data, model=spec.model, train=spec.train)


def load_space(file: Path):
    file.write_text(SPACE)
    return load(file).space


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("trian: {epochs: 3}", []),
        ("epochs: 3", []),
        ("data: 5", []),
        ("data: {path: a.csv, dataset: simulated}", []),
        ("data: {path: ' '}", []),
        ("data: {columns: {usr: a}}", []),
        ("model: {width: 30, heads: x}\ntrain: {lr: 1, dropout: 1}", []),
        ("train: {epochs: 0}", ["train.seed=-1", "model.width=6"]),
        ("", ["train.epoch=3"]),
        ("", ["trian.epochs=3"]),
        ("", ["train.epochs.x=3"]),
        ("", ["train.epochs"]),
        ("train: 5", ["train.epochs=3"]),
        ("train: [", []),
    ],
)
def test_messages_are_those_of_a_search(file: Path, text: str, overrides: list[str]) -> None:
    file.write_text(SPACE + text)
    assert failure(load_training, file, *overrides) == failure(load, file, *overrides)


@pytest.mark.parametrize("place", ["file", "--set"])
def test_with_a_checkpoint_there_is_nothing_to_train(file: Path, place: str) -> None:
    file.write_text("checkpoint: a.safetensors\n" if place == "file" else SPACE)
    message = failure(load_training, file, *(["checkpoint=a.safetensors"] if place == "--set" else []))
    assert message.startswith(f"{file}: checkpoint: given ")
    assert "there is nothing to train" in message
    assert load_training(file, ["checkpoint=null"]) == TrainingSpec(data=DataConfig(dataset="simulated"))


def test_an_override_that_training_does_not_read_is_refused(file: Path) -> None:
    file.write_text(SPACE)
    assert failure(load_training, file, "search.trials=3") == (
        "--set search.trials=3: training does not read search; expected a key of data, model or train"
    )


def test_every_failing_override_is_named(file: Path) -> None:
    file.write_text("{}")
    texts = ["train.epoch=3", "data.split=ratio", "model.size=1", "nonsense"]
    told = failure(load_training, file, *texts).splitlines()
    assert [line.split(":")[0] for line in told] == [f"--set {text}" for text in texts if "split" not in text]


def test_training_and_search_have_the_same_top_level_keys() -> None:
    assert list(experiment_file.KEYS) == list(Spec.__dataclass_fields__)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "a/b", "--out")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/a/b"):
        with pytest.raises(UserError, match=r"^--out: .*/file is a file, expected a folder$"):
            check_folder(folder, "--out")


def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_file.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=rf"^--out: {tmp_path} is not writable"):
        check_folder(tmp_path / "a", "--out")
