"""The commands on the project's pages."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(text: str) -> list[str]:
    """The indented blocks of a page's text, without their indentation."""
    return [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n(?:^\n(?=    ))?)+", text, flags=re.M)]


def commands(text: str, beginning: str) -> list[str]:
    """The lines of the blocks that begin so. A line that ends with a backslash goes on in the next one."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(beginning)]


def page(name: str) -> str:
    """The text of a page, such as README.md or docs/data.md."""
    return (ROOT / name).read_text(encoding="utf-8")
