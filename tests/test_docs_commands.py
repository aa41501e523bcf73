"""The commands of the pages in docs/ run on small logs; those that take hours are read as they would be begun."""

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search import tune
from search.spec import load
from search.table import __main__ as table
from search.table.rows import rows_of
from tests.benchmarks import fidelity
from tests.own_log import MINE, made_up_log, write_mine
from tests.pages import ROOT, commands, page

READ = ("docs/results.md", "docs/scaling.md", "mlflow/README.md")
N_ITEMS = 10_672  # of Video Games
SMALL = "--trials 2 --set train.epochs=1 search.bootstrap_replicates=50 search.concurrency=2 search.random_points=0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a log and an experiment file for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ETAREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("configs").symlink_to(ROOT / "configs")
    write_mine(tmp_path)
    return tmp_path


def run(command: str) -> str:
    """The output of a command, which must end with status 0."""
    words = [sys.executable, *shlex.split(command, comments=True)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow
def test_logs_are_described(folder: Path) -> None:
    ratings = made_up_log(["user", "item", "time"])
    ratings.insert(2, "rating", 3)
    ratings.to_csv("u.data", sep="\t", header=False, index=False)
    printed = [run(command) for command in commands(page("docs/data.md"), "python -m ")]
    assert len(printed) == 2 and all("interactions" in text and "columns" in text for text in printed)


def test_literals_of_python_become_json_lines(folder: Path) -> None:
    (command,) = commands(page("docs/data.md"), "zcat ")
    reviews = [{"username": "u1", "product_id": 7, "text": 'it\'s \u00e4 "game"'}, {"username": "u2", "early": True}]
    Path("steam_reviews.json.gz").write_bytes(gzip.compress("".join(f"{one!r}\n" for one in reviews).encode()))
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    assert [json.loads(line) for line in Path("steam_reviews.jsonl").read_text().splitlines()] == reviews


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_earlier_searches_are_built_on_and_compared(folder: Path) -> None:
    Path("new-log.yaml").write_text(MINE.replace("name: mine", "name: new-log"))
    for seed in (0, 1):
        run(f"python -m search.tune --space mine.yaml --set search.seed={seed}")  # to runs/mine and runs/mine-2
    warm, first = commands(page("docs/search.md"), "python -m ")
    assert "4 trials" in run(warm) or "takes 4" in run(warm)
    assert "runs/mine" in run(first)
    (compare,) = re.findall(r"`(python -m search\.compare) DIR DIR \.\.\.`", page("README.md"))
    assert "compare.html" in run(f"{compare} runs/mine runs/mine-2 --out both") and Path("both/compare.csv").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_program_reads_the_verdict(folder: Path) -> None:
    ((command, program),) = [line.split(" | ", 1) for line in commands(page("docs/output.md"), "python -m ")]
    events = [json.loads(line) for line in run(f"{command} {SMALL}").splitlines()]
    assert program == """jq -r 'select(.event == "result").verdict'"""
    (verdict,) = [event["verdict"] for event in events if event["event"] == "result"]
    assert verdict
    if shutil.which("jq"):
        lines = "\n".join(map(json.dumps, events))
        assert (
            subprocess.run(shlex.split(program), input=lines, capture_output=True, text=True).stdout == f"{verdict}\n"
        )


def test_the_schema_for_editors_is_printed() -> None:
    (command,) = set(re.findall(r"`(python -m search\.spec)`", page("README.md")))
    assert run(command) == (ROOT / "search/spec/spec.schema.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for name in READ for line in commands(page(name), "python -m ")])
def test_a_command_of_hours_is_read(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options are known, its experiment file is valid, and the rows that it names are there."""
    _, _, module, *words = shlex.split(line, comments=True)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [module, *words])
    parsers = {
        "search.tune": tune.parse,
        "search.table": lambda: table._parse(words),
        "tests.benchmarks.fidelity": fidelity._parse,
    }
    given = parsers[module]()
    spec = load(given.space, given.set)
    if module == "search.table":
        assert rows_of(spec, N_ITEMS, given.rows, tuple(given.seeds), given.space)
