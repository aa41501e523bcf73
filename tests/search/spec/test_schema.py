"""The shipped JSON schema: current, and of one mind with `load`."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from etarec.config import UserError
from etarec.document import parse_yaml
from search.spec import as_dict, load
from search.spec.schema import as_text, editor_schema

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
CHECK = jsonschema.Draft202012Validator(editor_schema())
SPACE = "space: {top_k: {low: 2, high: 500, log: true}}\n"


def faults(text: str) -> list[str]:
    """The places of a file's faults, as an editor shows them."""
    return [error.json_path for error in CHECK.iter_errors(parse_yaml(text, "FILE"))]


def test_the_shipped_file_is_current() -> None:
    shipped = ROOT / "search" / "spec" / "spec.schema.json"
    assert shipped.read_text() == as_text(), "make it again: python -m search.spec > search/spec/spec.schema.json"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(editor_schema())


@pytest.mark.slow
def test_the_command_prints_it() -> None:
    run = subprocess.run([sys.executable, "-m", "search.spec"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (run.stdout, run.stderr) == (as_text(), "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_accepts_the_files_of_the_project_and_what_a_search_writes_of_them(file: Path) -> None:
    assert faults(file.read_text()) == []
    assert faults(yaml.safe_dump(as_dict(load(file)))) == []


@pytest.mark.parametrize(
    "text",
    [
        SPACE + "train:\ndata:\nsearch:\n",
        SPACE + "model: {class: 'mine.models:Mine', options: {depth: 2}}\n",
        "adapt: {gate: 'mine.gates:Mine'}\nspace: {gate_options.rate: {low: 0, high: 1}}\n",
        "space: {top_k: {low: 2, high: 9, when: {target: weights}}, cosine_threshold: {choices: [null, 0.3]}}\n",
        "space: {top_k: {low: 2, high: 9, when: {target: [weights, state]}}}\n",
        SPACE + "data: {path: log.csv, columns: {user: 1, item: 2-}, where: {event: [buy, 3]}}\n",
        SPACE + "table: {rows: [{name: a, train: {epochs: 3}}]}\n",
    ],
)
def test_it_accepts_every_form_that_a_key_may_have(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("spce: {}\n" + SPACE, "$"),
        ("name: demo\n", "$"),
        ("space: {topk: {low: 1, high: 2}}\n", "$.space"),
        ("space: {top_k: {low: 1, hihg: 2}}\n", "$.space.top_k"),
        ("space: {top_k: {low: 1, high: 2, when: {target: wights}}}\n", "$.space.top_k.when.target"),
        (SPACE + "train: {epochs: none}\n", "$.train"),
        (SPACE + "search: {trials: 0}\n", "$.search"),
    ],
)
def test_a_fault_that_it_finds_is_one_of_load(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert place in faults(text)
    with pytest.raises(UserError):
        load(tmp_path / "mine.yaml")


def test_an_editor_can_show_the_meaning_of_every_key() -> None:
    properties = editor_schema()["properties"]
    assert all("description" in node for node in [*properties.values(), *properties["space"]["properties"].values()])
