"""`python -m search.table`: its files, that nothing is measured twice, and what the user can fix."""

import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny import TINY

from etarec.metrics import quality
from search.running import runner
from search.spec import load
from search.table import __main__ as table

CONFIGS = Path(__file__).parents[3] / "configs"
ROWS = [
    {"name": "static", "adapt": {"target": "none"}, "published": {"hr_at_10": 0.5, "filter_rate": 0.25}},
    {"name": "stream", "adapt": {"gate": "open"}, "against": ["static"], "seeds": [0, 3]},
    {"name": "naive", "baseline": "naive", "against": ["stream"]},
]
EXPERIMENT = {
    **TINY,
    "adapt": {"batch_size": 32},
    "search": {"bootstrap_replicates": 50, "concurrency": 2},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETAREC_CACHE", raising=False)
    return tmp_path


def write(rows=ROWS, **more) -> None:
    Path("space.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "table": {"rows": rows, **more}}))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = table.main(["--space", "space.yaml", *arguments])
    return status, *capsys.readouterr()


@pytest.mark.ray
def test_a_table_from_its_file_to_its_files_and_nothing_twice(folder: Path, capsys, monkeypatch) -> None:
    write(published_on={"users": 150, "items": 54})
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    there = Path("runs/space-table")
    seeds, means = pd.read_csv(there / "seeds.csv"), pd.read_csv(there / "table.csv").set_index("row")
    assert list(zip(seeds["row"], seeds["seed"], strict=True)) == [
        ("static", 0), ("stream", 0), ("stream", 3), ("naive", 0),
    ]  # fmt: skip
    two = seeds[seeds["row"] == "stream"]
    assert means.test_hr_at_10["stream"] == pytest.approx(two.test_hr_at_10.mean())
    assert means.test_hr_at_10_sd["stream"] == pytest.approx(two.test_hr_at_10.std())
    assert np.isnan(means.test_hr_at_10_sd["static"]) and means.training_epochs["static"] == 1
    assert means.test_filter_rate["stream"] == 0 and means.test_filter_rate["static"] == 1
    assert means.published_hr_at_10["static"] == 0.5 and np.isnan(means.published_hr_at_10["naive"])
    compared = pd.read_csv(there / "comparisons.csv")
    assert list(compared["metric"]) == ["hr_at_10", "ndcg_at_10"] * 2
    first = compared.iloc[0]
    gap = seeds.test_hr_at_10[1] - seeds.test_hr_at_10[0]  # seed 0 is the only one that both rows have
    assert first.seeds == 1 and first.difference == pytest.approx(gap)
    markdown = (there / "table.md").read_text()
    assert "| HR@10 published |" in markdown and "| .5000 |" in markdown and "static" in out
    provenance = json.loads((there / "provenance.json").read_text())
    assert provenance["data"]["users"] == 150 and len(provenance["checkpoint"]) == 2
    assert load(there / "spec.yaml") == load(Path("space.yaml"))
    kept = sorted((there / "measured").glob("*.json"))
    assert len(kept) == len(list((there / "measured").glob("*.npz"))) == 2 * 4
    for file in kept:
        ranks = np.load(file.with_suffix(".npz"), allow_pickle=False)["ranks"]
        assert json.loads(file.read_text())["metrics"]["hr_at_50"] == quality(ranks)["hr_at_50"]

    asked: list = []

    def nothing_left(subject, jobs, plan, warn, *, on_test, done=None):
        asked.extend(job.config for job in jobs)
        return iter([None] * len(jobs))

    monkeypatch.setattr(runner, "measure_all", nothing_left)
    before = {file: file.read_bytes() for file in there.glob("*.csv")}
    assert run(capsys)[0] == 0 and asked == []
    assert {file: file.read_bytes() for file in there.glob("*.csv")} == before
    write([*ROWS[:2], {**ROWS[2], "adapt": {"batch_size": 16}}])
    monkeypatch.setattr(runner, "cluster", lambda *_: nullcontext())
    assert run(capsys, "--rows", "naive", "static")[0] == 0
    assert [config.batch_size for config in asked] == [16, 16]
    assert list(pd.read_csv(there / "table.csv")["row"]) == ["static", "naive"]


@pytest.mark.parametrize(
    ("rows", "more", "expected"),
    [
        ([], {}, "space.yaml: table.rows: given [], expected at least one"),
        ([{"adapt": {}}], {}, "space.yaml: table.rows[0].name"),
        ([{"name": "a", "modell": {}}], {}, "table.rows[0].modell: unknown key; did you mean model?"),
        ([{"name": "a", "train": {"epochs": "x"}}], {}, 'table.rows[0].train.epochs: given "x", expected an integer'),
        ([{"name": "a", "adapt": {"top_k": 0}}], {}, "table.rows[0].adapt.top_k: given 0, expected an integer at"),
        ([{"name": "a"}, {"name": "a"}], {}, 'table.rows[1].name: given "a" a second time'),
        ([{"name": "a", "against": ["b"]}], {}, 'table.rows[0].against: given "b", expected names of other rows'),
        ([{"name": "a", "against": ["a"]}], {}, 'table.rows[0].against: given "a", expected names of other rows'),
        ([{"name": ""}], {}, 'table.rows[0].name: given "", expected a name'),
        ([{"name": "a"}], {"seeds": [1, 1]}, "table.seeds: given [1, 1], expected each once"),
        ([{"name": "a"}], {"seeds": []}, "table.seeds: given [], expected at least one"),
        ([{"name": "a"}], {"published_on": {"users": 3}}, "table.published_on.items: "),
        ([{"name": "a", "adapt": {"top_k": 999}}], {}, "table.rows[0].adapt.top_k: given 999, expected at most 54"),
    ],
)
def test_what_the_user_can_fix(folder: Path, capsys, rows, more, expected) -> None:
    write(rows, **more)
    status, _, err = run(capsys)
    assert status == 2 and err.startswith("error: ") and expected in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_mistake_in_a_section_that_rows_share_is_told_once(folder: Path, capsys) -> None:
    write([{"name": name, "adapt": {"batch_size": 2}} for name in "abc"])
    assert run(capsys, "--set", "train.epochs=0", "adapt.learning_rate=-1")[2] == (
        "error: space.yaml: train.epochs: given 0, expected an integer at least 1 (from --set train.epochs=0)\n"
        "space.yaml: adapt.learning_rate: given -1, expected a number above 0 (from --set adapt.learning_rate=-1)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "table=null"], "space.yaml: table: missing, expected its rows"),
        (["--rows", "gone"], "--rows gone: no such row in space.yaml; expected one of: static, stream, naive"),
        (["--set", "checkpoint=a.safetensors"], "space.yaml: checkpoint: a table trains its models itself"),
        (["--out", "used"], "used: holds a search"),
        (["--out", "space.yaml"], "space.yaml is a file, expected a folder"),
    ],
)
def test_arguments_that_the_user_can_fix(folder: Path, capsys, arguments, expected) -> None:
    write()
    Path("used").mkdir()
    Path("used/trials.jsonl").touch()
    status, _, err = run(capsys, *arguments)
    assert status == 2 and expected in err and not Path("runs").exists()


def test_an_address_is_named_without_its_password(folder: Path, capsys) -> None:
    write()
    status, out, err = run(capsys, "--address", "redis://:hunter22@head:6379")
    assert status == 2 and err.startswith("error: --address redis://...@head:6379: ") and "hunter22" not in out


def test_an_unforeseen_error_says_that_the_table_can_go_on(folder: Path, capsys, monkeypatch) -> None:
    def fails(begun: object) -> None:
        raise RuntimeError("no such wheel")

    write()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("search.table.run.make", fails)
    status, _, err = run(capsys)
    assert status == 1 and err.startswith("error: RuntimeError: no such wheel; the same command continues the table\n")


def test_help_does_not_wait_for_ray(folder: Path) -> None:
    code = "import sys\nfrom search.table.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "assert not {'ray', 'torch', 'mlflow'} & sys.modules.keys()"],
        env={"PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and "--rows" in done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_a_table_with_a_rehearsal_measures_it_from_its_own_checkpoint(folder: Path, capsys) -> None:
    Path("space.yaml").write_text(
        yaml.safe_dump(
            {**EXPERIMENT, "data": {**EXPERIMENT["data"], "rehearsal_share": 0.35}, "table": {"rows": ROWS[:2]}}
        )
    )
    assert run(capsys, "--seeds", "0")[0] == 0
    seeds = pd.read_csv("runs/space-table/seeds.csv")
    assert list(seeds["row"]) == ["static", "stream"] and seeds.rehearsal_hr_at_10.notna().all()
    kept = [json.loads(file.read_text()) for file in Path("runs/space-table/measured").glob("*.json")]
    assert sorted(one["split"] for one in kept) == ["test"] * 2 + ["valid"] * 4
    assert len({one["checkpoint"] for one in kept}) == len({one["data"] for one in kept}) == 2
