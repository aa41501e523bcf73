"""No command on the pages for users escapes: each is found, and run or at least read by a test that stands here."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.pages import ROOT, commands, page, pages, quoted_commands, shell_blocks

# The file that runs the commands of each page that match a pattern.
RUN_BY = {
    ".ci/run": {"README.md": r"make (tune|test)|pip install -e \."},
    "tests/search/track/test_model.py": {"docs/serving.md": "mlflow models serve .*|curl .*:5001/.*"},
    "tests/test_docs_cluster.py": {"README.md": r"ray .*|export RAY_AUTH_MODE=token|python -m (?=.*--address).*"},
    "tests/test_docs_commands.py": {
        "docs/data.md": "python -m .*|zcat (.|\n)*",
        "docs/output.md": "python -m .*",
        "docs/results.md": "python -m .*",
        "docs/scaling.md": "python -m .*",
        "docs/search.md": "python -m .*",
        "mlflow/README.md": "python -m .*",
    },
    "tests/test_docs_serving.py": {
        "README.md": "python -m etarec.serve .*|curl .*",
        "docs/serving.md": "python -m etarec.serve .*|curl .*:8080/.*",
    },
    "tests/test_readme.py": {"README.md": r"python -m (?!etarec.serve|.*--address).*|mlflow ui"},
    "tests/test_team.py": {
        "README.md": "export MLFLOW_.*|bash mlflow/serve.sh",
        "mlflow/README.md": "export MLFLOW_.*|bash mlflow/serve.sh",
    },
    # Docker, Kubernetes and the set-up of a machine: options and syntax alone.
    "tests/test_pages.py": {
        "README.md": "kubectl .*",
        "mlflow/README.md": "cp .*|docker .*|pip install .*|sudo .*|curl --user .*",
    },
}
PROGRAMS = re.compile(
    r"(?:^|(?<= ))(python -m [\w.]+|docker (?:compose )?\w+|kubectl port-forward|mlflow (?:models serve|db upgrade|ui)|"
    r"ray (?:job )?[\w-]+|pip install|curl|createuser|createdb|pg_dump)\b(?=\s|$)"
)
WITHOUT_OPTIONS = {"python -m search.spec", "python -m tests.faults.bounds", "python -m pytest"}


def not_run(name: str, text: str) -> list[str]:
    """The commands in the text of a page that no test runs."""
    patterns = [of_pages[name] for of_pages in RUN_BY.values() if name in of_pages]
    return [command for command in commands(text) if not any(re.fullmatch(one, command) for one in patterns)]


@pytest.mark.parametrize("name", pages())
def test_every_command_is_run_by_a_test(name: str) -> None:
    assert not_run(name, page(name)) == []


def test_no_test_is_named_for_commands_that_are_gone() -> None:
    for file, of_pages in RUN_BY.items():
        text = (ROOT / file).read_text()
        for name, pattern in of_pages.items():
            assert any(re.fullmatch(pattern, command) for command in commands(page(name))), (file, pattern)
            assert file == ".ci/run" or "team" in file or "tests.pages" in text, f"{file} does not read the pages"


@pytest.mark.parametrize(
    "text",
    [
        "Text\n\n    helm install x\n",
        "- point\n\n    helm install x      # it's a comment\n\nText",
        "```sh\nhelm install x\n```\n",
        "1. point\n\n   ```bash\n   helm \\\n     install x\n   ```\n",
        "```console\n$ helm install x\n```\n",
        "    data: {path: x}\n\n    helm install x\n",
        "    import search\n\n    helm install x\n\n    x = 1\n",
    ],
)
def test_a_new_command_of_any_form_is_found(text: str) -> None:
    assert not_run("README.md", text) == ["helm install x"]


def test_other_blocks_are_no_commands() -> None:
    text = "    data: {path: x}\n    where: {a: 1}\n\n    import x\n    y = x.z()\n\n    a ──> b\n\n    HR = mean(x)\n"
    assert shell_blocks(text + '```python\nif x:\n    run()\n```\n    {"columns": ["a"]}\n') == []


def test_a_shell_understands_every_block() -> None:
    script = "\n".join(block for name in pages() for block in shell_blocks(page(name)))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_target_of_make_is_there() -> None:
    texts = [page(name) for name in (*pages(), ".github/CONTRIBUTING.md")]
    named = {
        words.split()[1] for text in texts for words in (*quoted_commands(text, "make "), *commands(text, "make "))
    }
    assert {"tune", "faults"} <= named <= set(re.findall(r"^([a-z-]+):", page("Makefile"), flags=re.M))
    assert (ROOT / ".ci/run").exists() and any("`bash .ci/run`" in text for text in texts)


def test_the_image_for_kubernetes_has_the_locked_version_of_ray() -> None:
    (tag,) = re.findall(r"rayproject/ray:([\d.]+)-py311", page("README.md"))
    assert f"\nray=={tag} " in page("requirements.lock")


def options() -> dict[str, set[str]]:
    """The options that the pages give to each program."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in map(page, (*pages(), ".github/CONTRIBUTING.md")):
        for command in (*commands(text), *quoted_commands(text, "(?:python|mlflow|ray|pip) ")):
            _, *parts = PROGRAMS.split(command)
            for program, rest in zip(parts[::2], parts[1::2], strict=True):
                found[program] |= set(re.findall(r"(?<=\s)--[a-z][\w-]*", rest))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(options().keys() - WITHOUT_OPTIONS))
def test_every_option_is_known_to_its_program(program: str) -> None:
    first, *rest = program.split()
    path = (
        sys.executable
        if first == "python"
        else shutil.which(first, path=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    )
    if path is None:
        pytest.skip(f"{first} is not installed here")
    shown = subprocess.run(
        [path, *rest, "--help", *(["all"] if first == "curl" else [])],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if first == "docker" and "unknown command" in shown.stderr:
        pytest.skip("this Docker has no compose")
    assert shown.returncode == 0, shown.stderr
    assert {option for option in options()[program] if not re.search(rf"{option}\b", shown.stdout)} == set()


@pytest.mark.parametrize("module", sorted(name for name in options() if name.startswith("python -m ")))
def test_every_module_is_there(module: str) -> None:
    assert find_spec(module.removeprefix("python -m ")) is not None
