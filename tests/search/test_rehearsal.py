"""The rehearsal: when trials have one, and the data and checkpoint on which they then run."""

from pathlib import Path

import pytest
import yaml

from etarec.config import UserError
from etarec.train import load_or_train
from search import prepare, rehearsal
from search.experiment import Experiment
from search.records import provenance
from search.spec import load


@pytest.mark.parametrize(
    ("document", "share"),
    [
        ({}, 0.35),
        ({"data": {"valid_share": 0.1, "test_share": 0.3}}, 0.4),
        ({"data": {"rehearsal_share": 0.4}}, 0.4),
        ({"data": {"rehearsal_share": None}}, None),
        ({"data": {"split": "leave_one_out"}}, None),
        ({"adapt": {"objective": "entropy"}}, None),
        ({"adapt": {"target": "state"}}, None),
        ({"checkpoint": "trained.safetensors"}, None),
        ({"checkpoint": "trained.safetensors", "data": {"rehearsal_share": 0.3}}, 0.3),
    ],
)
def test_auto_rehearses_where_adapting_learns_the_next_item(tmp_path, document, share):
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"space": {"top_k": {"low": 2, "high": 9}}, **document}))
    assert rehearsal.share(load(file)) == share


def rehearsing(folder: Path, users: int, **data: object) -> Experiment:
    document = {
        "data": {"simulation": {"users": users, "items": 60}, **data},
        "model": {"width": 8, "heads": 2, "mlp_width": 8},
        "train": {"epochs": 1},
        "space": {"top_k": {"low": 2, "high": 9}},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(document))
    return Experiment(load(folder / "space.yaml"), folder / "out", file=folder / "space.yaml")


def test_trials_rehearse_where_target_weights_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path))
    ran = rehearsing(tmp_path, 150)
    subject = prepare.prepare(ran)
    searched = subject.without_test()
    assert subject.rehearsal is not None and searched.checkpoint is subject.rehearsal.checkpoint
    assert searched.checkpoint.sha256 != subject.checkpoint.sha256 == ran.provenance.checkpoint["sha256"]
    counts, whole = ran.provenance.rehearsal["samples"], subject.data.sample_counts()
    assert counts["train"] < whole["train"] and counts["test"] == whole["test"]
    assert counts["train"] + counts["gap"] + counts["valid"] == whole["train"] + whole["valid"]
    assert f"rehearsal   trials run on the {counts['valid']} samples before test" in capsys.readouterr().out
    assert provenance.settings(ran.spec, ran.provenance)["rehearsal checkpoint sha256"] == searched.checkpoint.sha256
    alone = prepare.prepare(rehearsing(tmp_path, 150, rehearsal_share=None))
    assert alone.rehearsal is None and alone.checkpoint.sha256 == subject.checkpoint.sha256


def test_a_rehearsal_is_not_ended_on_a_plateau_that_the_first_training_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(rehearsal, "load_or_train", lambda *given: asked.append(given[-1]) or load_or_train(*given))
    subject = prepare.prepare(rehearsing(tmp_path, 150))
    assert asked == [subject.checkpoint.epochs] == [1]


def test_a_model_hardly_better_than_popularity_is_named_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path))
    words = "the model of epoch 1 is hardly better than recommending the most popular items to everybody: HR@10 "
    for popular, warnings in ((0.0, 0), (1.0, 2)):
        monkeypatch.setattr(prepare, "popularity", lambda data, share=popular: {"hr_at_10": share})
        monkeypatch.setattr(provenance, "popularity", lambda data, share=popular: {"hr_at_10": share})
        prepare.prepare(rehearsing(tmp_path, 150))
        assert capsys.readouterr().out.replace("\n", " ").count(words) == warnings


def test_a_rehearsal_without_a_train_sample_is_left_out_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path))
    monkeypatch.setattr(rehearsal.data, "rehearsal", lambda data, config, share: EmptyTrain())
    assert prepare.prepare(rehearsing(tmp_path, 150)).rehearsal is None
    with pytest.raises(UserError) as error:
        prepare.prepare(rehearsing(tmp_path, 150, rehearsal_share=0.4))
    expected = "data.rehearsal_share: 0.4 leaves no train sample, expected less, or null"
    assert str(error.value) == f"{tmp_path / 'space.yaml'}: {expected}"


class EmptyTrain:
    def sample_counts(self) -> dict[str, int]:
        return {"train": 0, "valid": 9, "test": 9}
