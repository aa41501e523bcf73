"""Templates escape what they are given, refuse a missing value, and take a page's own folder first."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from search.report.templates import filled


def test_html_and_markdown_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text("{{ name }}")
    (tmp_path / "page.md.j2").write_text('{{ name }} {{ 1.23456 | s }}{{ " **" | safe }}\n{{ name | fenced("yaml") }}')
    assert filled("page.html.j2", {"name": "<b>"}, tmp_path) == "&lt;b&gt;"
    assert filled("page.md.j2", {"name": "a|b <c>"}, tmp_path) == "a\\|b &lt;c> 1.2 **\n```yaml\na|b <c>\n```"
    for page in ("page.html.j2", "page.md.j2"):
        with pytest.raises(UndefinedError):
            filled(page, {}, tmp_path)


def test_an_option_of_a_command_stays_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text("{{ text | options }}")
    shown = filled("page.html.j2", {"text": "<b> --resume --trials 60."}, tmp_path)
    assert shown == '&lt;b&gt; <span class="option">--resume</span> <span class="option">--trials</span> 60.'


def test_a_page_includes_the_style_of_the_reports(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text('{% include "style.css" %}')
    assert "color-scheme" in filled("page.html.j2", {}, tmp_path)
