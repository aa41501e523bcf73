"""The origin of numbers: a command that can be typed again, the state of the code, the seconds of each step."""

import json
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etarec.data import Interactions
from search.records.provenance import Provenance, command, digest, git, popularity, settings, sources
from search.spec import load


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "provenance.py").write_text("as committed")
    run_git(tmp_path, "init", "-q")
    run_git(tmp_path, "add", "provenance.py")
    run_git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first", "--no-verify")
    return tmp_path


def run_git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


def test_the_command_of_a_module_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("search.tune", None), raising=False)
    arguments = ["--space", "my space.yaml", "--set", "adapt.top_k=null", "data.path=it's;rm"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/search/tune.py", *arguments])
    assert command().startswith("python -m search.tune --space 'my space.yaml' --set adapt.top_k=null ")
    assert shlex.split(command())[3:] == arguments


def test_the_command_of_a_package_names_the_package(tmp_path: Path) -> None:
    """Python runs `python -m search.table` as the module `search.table.__main__`."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/__main__.py").write_text("from search.records.provenance import command\nprint(command())\n")
    arguments = ["-m", "rows", "--space", "my space.yaml", "--resume", "--seeds", "3"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "python -m rows --space 'my space.yaml' --seeds 3\n"


def test_a_step_s_seconds_add_up_and_a_step_that_raises_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 14.0, 20.0])
    monkeypatch.setattr("etarec.clock.time.perf_counter", lambda: next(clock))
    provenance = Provenance()
    for _ in range(2):
        with provenance.timed("train"):
            pass
    with suppress(ZeroDivisionError), provenance.timed("test"):
        raise ZeroDivisionError
    assert provenance.seconds == {"train": 6.0}


def test_the_command_is_kept_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--set", "data.path=s3://ada:hunter22@bucket/log.csv"])
    assert command().endswith("--set data.path=s3://...@bucket/log.csv")


def test_the_command_of_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    monkeypatch.setattr(sys, "argv", ["a script.py", "--trials", "3"])
    assert command() == "python 'a script.py' --trials 3"


def test_git_names_the_commit_and_whether_the_code_was_changed(checkout: Path) -> None:
    commit = run_git(checkout, "rev-parse", "HEAD").strip()
    assert len(commit) == 40 and git(checkout) == {"commit": commit, "dirty": False}
    (checkout / "provenance.py").write_text("changed")
    assert git(checkout) == {"commit": commit, "dirty": True}


def test_a_package_inside_another_projects_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    (installed / "provenance.py").write_text("")
    assert git(installed) == {"commit": None, "dirty": None}


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git(tmp_path) == {"commit": None, "dirty": None}


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git(checkout) == {"commit": None, "dirty": None}


def test_every_source_file_counts_as_code(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sources()
    assert {"etarec/gate.py", "etarec/models/ttt4rec.py", "search/records/provenance.py"} <= files.keys()
    assert len(set(files.values())) > 40 and not any(name.startswith("tests") for name in files)
    before = digest()
    monkeypatch.setattr("search.records.provenance.sources", lambda: files | {"etarec/gate.py": "changed"})
    assert digest() != before


def test_the_document_is_plain_json() -> None:
    document = Provenance(data={"sha256": "a"}, seconds={"search": 1.23456}).document()
    assert json.loads(json.dumps(document)) == document
    assert document["seconds"] == {"search": 1.23} and document["started"] <= document["finished"]
    assert {"python", "torch", "ray", "optuna", "mlflow"} <= document["versions"].keys()
    assert document["hardware"]["cores"] >= 1 and document["hardware"]["cpu"]


def test_popularity_ranks_by_the_counts_of_training_and_a_tie_counts_against_the_target() -> None:
    """Training sees items 1, 1, 2 and 1, 2, 3; the targets of validation are 3 (once seen, last) and 1 (most seen)."""
    data = Interactions(
        offsets=np.array([0, 5, 10]),
        items=np.array([1, 1, 2, 3, 4, 1, 2, 3, 1, 4], dtype=np.int32),
        train_end=np.array([2, 2], dtype=np.int32),
        valid_end=np.array([3, 3], dtype=np.int32),
        timestamps=None,
        max_length=50,
        vocabulary=pa.array(list("abcd"), pa.large_string()),
        sha256="",
    )
    found = popularity(data)
    assert found["ndcg_at_10"] == pytest.approx((1 / np.log2(2 + 2) + 1) / 2) and found["hr_at_10"] == 1.0
    alone = popularity(replace(data, items=np.array([1, 1, 2, 4, 3, 1, 2, 3, 4, 1], dtype=np.int32)))
    assert alone["ndcg_at_10"] == pytest.approx(1 / np.log2(3 + 2))  # item 4 was never seen
    gap = popularity(replace(data, train_end=np.array([1, 1], dtype=np.int32), gap_end=data.train_end))
    assert gap["ndcg_at_10"] == pytest.approx((1 / np.log2(3 + 2) + 1) / 2)  # training sees 1, 1 and 1, 2


def test_the_order_of_the_space_is_a_setting(tmp_path: Path) -> None:
    """The sampler draws the fields in the order of the file, so another order suggests other trials."""
    fields = {"top_k": "{low: 2, high: 9}", "entropy_quantile": "{low: 0.1, high: 1}"}
    found = []
    for names in (list(fields), list(reversed(fields))):
        file = tmp_path / "space.yaml"
        file.write_text("space:\n" + "".join(f"  {name}: {fields[name]}\n" for name in names))
        found.append(settings(load(file), Provenance()))
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {"search.order_of_space"}
    assert found[0]["search.order_of_space"] == "top_k, entropy_quantile"
