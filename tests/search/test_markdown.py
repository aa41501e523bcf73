"""Foreign text in Markdown is shown sign by sign, by the parser that rich brings."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from search.markdown import fenced, plain

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SIGNS = st.text(st.sampled_from("ab_*`~[]()<>!&;#|\\$ \n\tlt:/"), max_size=30)


def spoken(markdown: str, before: str = "x ") -> tuple[list[str], str]:
    """The kinds of what a text becomes behind other words, and its characters."""
    (_, inline, _) = PARSER.parse(f"{before}{markdown} x")
    children = inline.children or []
    return sorted({child.type for child in children} - {"text_special"}), "".join(child.content for child in children)


@given(SIGNS | st.text())
def test_a_text_is_nothing_but_its_characters(text: str) -> None:
    shown = " ".join(re.sub(r"[\0\s]+", " ", text).split())
    kinds, characters = spoken(plain(text.replace("\0", " ")))
    assert kinds == ["text"] and " ".join(characters.split()) == f"x {shown} x".replace("  ", " ")


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "![x](https://a.b/c)", "[x](javascript:1)", "**b**", "`c`", "a | b", "&lt;", "_i_"],
)
def test_a_cell_is_one_cell_and_plain(text: str) -> None:
    tokens = PARSER.parse(f"| a | b |\n|---|---|\n| {plain(text)} | 2 |")
    cells = [token for token in tokens if token.type == "inline"][2:]
    assert [cell.children[0].type for cell in cells if cell.children] == ["text", "text"]
    assert "".join(child.content for child in cells[0].children or []) == text


@pytest.mark.parametrize("text", ["hr_at_10 of adapt.gate_options", "p < .01"])
def test_plain_words_and_numbers_are_readable_in_the_file(text: str) -> None:
    assert plain(text) == text


@given(st.text(st.sampled_from("`a \n"), max_size=40))
def test_no_text_ends_its_block_of_code(text: str) -> None:
    (token,) = PARSER.parse(fenced(text, "yaml"))
    assert token.type == "fence" and token.info == "yaml" and token.content == f"{text}\n"
