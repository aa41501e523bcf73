"""Fills the templates of pages; a page's own folder is looked up first, then this one."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

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
    environment.filters.update(s=numbers.seconds, cell=_cell, options=_options)
    return environment


def _cell(text: Any) -> str:
    """Text escaped for a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _options(text: str) -> Markup:
    """Text for HTML in which no line breaks inside an option of a command, such as --resume."""
    marked = re.sub(r"--[a-z-]+", r'<span class="option">\g<0></span>', str(escape(text)))
    return Markup(marked)  # noqa: S704 - the text is escaped
