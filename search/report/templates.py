"""Fills the templates of pages; a page's own folder is looked up first, then this one."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from search import markdown, numbers

HERE = Path(__file__).parent


def filled(template: str, context: Mapping[str, Any], folder: Path = HERE) -> str:
    """The text of a template of `folder`. Values are escaped in HTML and in Markdown; a missing value is an error."""
    return _environment(folder, template.endswith(".html.j2")).get_template(template).render(context)


@cache
def _environment(folder: Path, html: bool) -> Environment:
    """The templates of a folder; it keeps them compiled."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]), autoescape=html, finalize=None if html else _in_markdown,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(s=numbers.seconds, fenced=_fenced, options=_options)
    return environment


def _in_markdown(value: Any) -> Any:
    """A value as plain text, unless the template calls it `safe`."""
    return value if isinstance(value, (Markup, StrictUndefined)) else markdown.plain(value)


def _fenced(text: Any, language: str = "") -> Markup:
    return Markup(markdown.fenced(text, language))  # noqa: S704 - Markdown, in which a fence holds any text


def _options(text: str) -> Markup:
    """Text for HTML in which no line breaks inside an option of a command, such as --resume."""
    marked = re.sub(r"--[a-z-]+", r'<span class="option">\g<0></span>', str(escape(text)))
    return Markup(marked)  # noqa: S704 - the text is escaped
