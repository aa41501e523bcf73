"""Fills the templates of pages; a page's own folder is looked up first, then this one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from search import numbers

HERE = Path(__file__).parent


def filled(template: str, context: Mapping[str, Any], folder: Path = HERE) -> str:
    """The text of a template of `folder`. Values are escaped in HTML; a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=template.endswith(".html.j2"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(s=numbers.seconds, sig=numbers.significant, cell=_cell)
    return environment.get_template(template).render(context)


def _cell(text: Any) -> str:
    """Text escaped for a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
