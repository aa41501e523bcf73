"""Fills the templates of pages; a page's own folder is looked up first, then this one."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from search import numbers

HERE = Path(__file__).parent


def filled(template: str, context: Mapping[str, Any], folder: Path = HERE) -> str:
    """The text of a template of `folder`. Values are escaped in HTML; a missing value is an error."""
    return _environment(folder, template.endswith(".html.j2")).get_template(template).render(context)


@cache
def _environment(folder: Path, autoescape: bool) -> Environment:
    """The templates of a folder; it keeps them compiled."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(s=numbers.seconds, cell=_cell)
    return environment


def _cell(text: Any) -> str:
    """Text escaped for a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
