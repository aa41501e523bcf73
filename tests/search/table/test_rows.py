"""Complete rows from the differences that a file gives, and the checkpoints that they share."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from etarec.config import UserError
from search.baselines import baseline_config
from search.spec import Spec, load
from search.table.rows import by_checkpoint, rows_of, table_of

ROWS = [
    {"name": "static", "adapt": {"target": "none"}},
    {"name": "stream", "adapt": {"gate": "open"}, "seeds": [3, 4]},
    {"name": "naive", "baseline": "naive", "train": {"epochs": 7}},
]


def spec_of(folder: Path, rows: list[dict[str, Any]] = ROWS, **table: Any) -> Spec:
    document = {"space": {"top_k": {"low": 2, "high": 20}}, "adapt": {"batch_size": 32}, "train": {"epochs": 5}}
    (folder / "space.yaml").write_text(yaml.safe_dump({**document, "table": {"rows": rows, **table}}))
    return load(folder / "space.yaml")


def test_a_row_is_the_file_with_its_differences(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, seeds=[1])
    static, stream, naive = rows_of(spec, 100)
    assert (static.adapt.target, static.adapt.batch_size, static.seeds) == ("none", 32, (1,))
    assert (stream.adapt.gate, stream.train.epochs, stream.seeds) == ("open", 5, (3, 4))
    assert naive.train.epochs == 7 and naive.adapt == baseline_config("naive", spec.adapt, n_items=100)
    assert {row.model for row in (static, stream, naive)} == {spec.model}


def test_a_row_may_have_an_order_of_its_own(tmp_path: Path) -> None:
    rows = rows_of(spec_of(tmp_path, [*ROWS, {"name": "by time", "order": "time", "adapt": {"gate": "open"}}]), 100)
    file_order = load(tmp_path / "space.yaml").data.order
    assert [row.order for row in rows] == [file_order] * 3 + ["time"]
    assert len(by_checkpoint(rows)) == 4  # two seeds of one row, another training, and the rest share one


def test_names_and_seeds_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    rows = rows_of(spec_of(tmp_path), 100, ["naive", "static"], (8, 9))
    assert [(row.name, row.seeds) for row in rows] == [("static", (8, 9)), ("naive", (8, 9))]


def test_rows_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    file = Path("space.yaml")
    with pytest.raises(UserError, match=r"--rows gone: no such row in .*; expected one of: static, stream"):
        rows_of(spec_of(tmp_path), 100, ["gone"], file=file)
    with pytest.raises(UserError, match=r"^space.yaml: table.rows\[0\].adapt.top_k: given 50, expected at most 49"):
        rows_of(spec_of(tmp_path, [{"name": "a", "adapt": {"top_k": 50}}]), 49, file=file)
    assert rows_of(spec_of(tmp_path, [{"name": "a", "adapt": {"top_k": 50, "gate": "open"}}]), 49)


def test_a_table_needs_rows_and_trains_its_models(tmp_path: Path) -> None:
    spec_of(tmp_path)
    with pytest.raises(UserError, match="table: missing, expected its rows"):
        table_of(load(tmp_path / "space.yaml", ["table=null"]))
    document = yaml.safe_load((tmp_path / "space.yaml").read_text())
    del document["train"]
    (tmp_path / "given.yaml").write_text(yaml.safe_dump({**document, "checkpoint": "a.safetensors"}))
    with pytest.raises(UserError, match="checkpoint: a table trains its models itself"):
        table_of(load(tmp_path / "given.yaml"))


def test_rows_share_checkpoints_and_the_first_seed_comes_first(tmp_path: Path) -> None:
    rows = rows_of(spec_of(tmp_path, seeds=[3]), 100)
    groups = [(train.epochs, train.seed, [row.name for row in members]) for (_, train), members in
              by_checkpoint(rows).items()]  # fmt: skip
    assert groups == [(5, 3, ["static", "stream"]), (7, 3, ["naive"]), (5, 4, ["stream"])]
