"""The section `table` of an experiment file: what its rows have of their own, from each other and from the file."""

from pathlib import Path

import pytest
import yaml

from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from search.spec import Spec, load, to_yaml
from search.spec.table_rows import TableConfig

CONFIGS = Path(__file__).parents[3] / "configs"
FILE = {
    "model": {"width": 32},
    "train": {"epochs": 7, "dropout": 0.1},
    "adapt": {"batch_size": 64},
    "space": {"top_k": {"low": 2, "high": 9}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "space.yaml"


def loaded(path: Path, *rows: dict, **more) -> Spec:
    path.write_text(yaml.safe_dump({**FILE, "table": {"rows": list(rows)}, **more}))
    return load(path)


def table(spec: Spec) -> TableConfig:
    assert spec.table is not None
    return spec.table


def test_a_row_is_the_files_own_where_it_says_nothing(path: Path) -> None:
    (row,) = table(loaded(path, {"name": "a"})).rows
    assert (row.model, row.train, row.adapt) == (
        ModelConfig(width=32), TrainConfig(epochs=7, dropout=0.1), AdaptConfig(batch_size=64),
    )  # fmt: skip


def test_train_and_adapt_are_merged_and_a_model_is_a_whole(path: Path) -> None:
    own = {"name": "a", "model": {"heads": 2}, "train": {"dropout": 0.5}, "adapt": {"target": "none", "top_k": None}}
    (row,) = table(loaded(path, own)).rows
    assert row.model == ModelConfig(heads=2)
    assert row.train == TrainConfig(epochs=7, dropout=0.5)
    assert row.adapt == AdaptConfig(batch_size=64, target="none", top_k=None)


def test_a_row_like_another_has_its_model_and_training_but_not_its_adaptation(path: Path) -> None:
    first = {"name": "a", "model": {"heads": 2}, "train": {"dropout": 0.5}, "adapt": {"batch_size": 8}}
    others = {"name": "b", "like": "a", "train": {"epochs": 3}}, {"name": "c", "like": "b"}
    rows = table(loaded(path, first, *others)).rows
    assert [row.model for row in rows] == [ModelConfig(heads=2)] * 3
    assert [row.train for row in rows[1:]] == [TrainConfig(epochs=3, dropout=0.5)] * 2
    assert [row.adapt for row in rows[1:]] == [AdaptConfig(batch_size=64)] * 2


def test_set_reaches_every_row_that_has_nothing_of_its_own(path: Path) -> None:
    loaded(path, {"name": "a"}, {"name": "b", "train": {"epochs": 3}})
    assert [row.train.epochs for row in table(load(path, ["train.epochs=1"])).rows if row.train] == [1, 3]


@pytest.mark.parametrize("file", ["small", "paper"])
def test_what_is_written_loads_as_the_same(path: Path, file: str) -> None:
    spec = load(CONFIGS / "paper.yaml") if file == "paper" else loaded(path, {"name": "a"}, {"name": "b", "like": "a"})
    path.write_text(to_yaml(spec))
    assert load(path) == spec


def test_a_file_without_a_table_writes_none(path: Path) -> None:
    path.write_text("space: {top_k: {low: 2, high: 9}}")
    assert "table" not in to_yaml(load(path)) and load(path).table is None


def test_mistakes_are_told_once_where_they_stand(path: Path) -> None:
    rows = [{"name": "a", "model": {"width": 6}, "train": {"patience": 0}}, {"name": "b", "like": "a"}]
    with pytest.raises(UserError) as caught:
        loaded(path, *rows, {"name": "c", "like": "d"}, model={"width": 10}, adapt={"batch_size": 0})
    assert sorted(line.split(": ")[1] for line in str(caught.value).splitlines()) == [
        "adapt.batch_size", "model", "table.rows[0].model", "table.rows[0].train.patience", "table.rows[2].like",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [5, [], "x", {"rows": 3}, {"rows": [4, None]}, {"rows": [{"name": [], "like": {}}]}])
def test_what_is_no_table_is_a_message(path: Path, wrong) -> None:
    with pytest.raises(UserError, match=r"table"):
        loaded(path, table=wrong)


def test_the_published_table_has_its_rows() -> None:
    rows = {row.name: row for row in table(load(CONFIGS / "paper.yaml")).rows}
    models = ("GRU4Rec", "SASRec", "BERT4Rec", "Mamba4Rec", "TTT4Rec")
    for name in models:
        static, stream = rows[name].adapt, rows[f"{name} + stream"].adapt
        assert static is not None and static.target == "none" and rows[name].published is not None
        assert stream is not None and (stream.target, stream.gate) == ("weights", "open")
        assert stream.objective == "next_item" and stream.serve == "before" and stream.feedback == "immediate"
        assert (stream.batch_size, stream.dropout, rows[f"{name} + stream"].order) == (256, 0, "position")
        assert rows[f"{name} + stream"].model == rows[name].model
    published = rows["ETA-Rec K=50"].adapt
    assert published == AdaptConfig(
        objective="entropy", parameters="projections", optimizer="sgd", learning_rate=1e-3, momentum=0.9, serve="after",
        top_k=50, entropy_threshold=3.901, cosine_threshold=0.3, average_over="all", min_admitted=0.1,
        weighting="clamped", refill="each_test", dropout=0.2, batch_size=4096,
    )  # fmt: skip
