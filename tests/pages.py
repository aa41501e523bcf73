"""The commands on the project's pages."""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SHELLS = ("sh", "bash", "console", "shell")
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
# First lines of blocks that are neither commands nor YAML, JSON, Python, formulas or drawings.
OTHER = ("trials      35 finished", "configs/            experiment files", "training     epochs x train")


def pages() -> list[str]:
    """The names of the pages for users."""
    return ["README.md", "mlflow/README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    """The text of a page, such as README.md or docs/data.md."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The indented blocks of a page's text and its fenced blocks for a shell, without indentation and empty lines."""
    fenced = [body for kind, body in FENCED.findall(text) if kind in SHELLS]
    indented = re.findall(r"(?:^    .*\n)+", FENCED.sub("", text + "\n"), flags=re.M)
    return [textwrap.dedent(part) for block in (*indented, *fenced) for part in re.split(r"\n(?:\s*\n)+", block)]


def shell_blocks(text: str) -> list[str]:
    """The blocks that a shell can run. A block counts as one unless it is certainly something else."""
    return [block for block in blocks(text) if not (block.startswith(OTHER) or _is_data(block) or _is_drawn(block))]


def lines(block: str) -> Iterator[str]:
    """The commands of a block without comments. One goes on behind a backslash and inside of quotes."""
    command = ""
    for line in re.sub(r"^\$ ", "", block, flags=re.M).replace("\\\n", " ").splitlines():
        command += line if command else re.sub(r"(^|\s+)#.*", "", line).rstrip()
        if any(command.count(quote) % 2 for quote in ("'", '"')):
            command += "\n"
        elif command:
            yield re.sub(r"  +", " ", command)
            command = ""


def commands(text: str, beginning: str = "") -> list[str]:
    """The commands of a page's text that begin so."""
    return [line for block in shell_blocks(text) for line in lines(block) if line.startswith(beginning)]


def quoted_commands(text: str, beginning: str) -> list[str]:
    """The commands that begin so among those that the text quotes in a sentence."""
    return [" ".join(words.split()) for words in re.findall(rf"`({beginning}[^`]*)`", text)]


def _is_data(block: str) -> bool:
    """Whether the block is a YAML mapping, JSON, or Python that imports or assigns something."""
    for parse, kinds in ((yaml.safe_load, (dict, list)), (json.loads, (dict, list)), (_statements, list)):
        try:
            if isinstance(found := parse(block), kinds) and found:
                return True
        except (yaml.YAMLError, ValueError, SyntaxError):
            continue
    return False


def _statements(block: str) -> list[ast.stmt]:
    kinds = (ast.Import, ast.ImportFrom, ast.Assign)
    return [statement for statement in ast.parse(block).body if isinstance(statement, kinds)]


def _is_drawn(block: str) -> bool:
    """Whether the block is a formula or a drawing."""
    return re.search(r" = |──|│|½", block) is not None and not block.startswith("export ")
