"""Foreign text in Markdown: shown as it is, whatever signs of Markdown or HTML it holds."""

import re
from typing import Any

# Signs that begin emphasis, code, a link, an image, a cell, a tag or an entity of HTML, or mathematics on some pages.
_SIGNS = re.compile(r"([\\`*\[\]|$]|(?<!\w)[_~]+|[_~]+(?!\w))")


def plain(text: Any) -> str:
    """The text of one line, in which every sign stands for itself; a line break becomes a blank.

    A sign before a blank, as in "p < .01", begins no tag and stays.
    """
    line = re.sub(r"<(?! )", "&lt;", re.sub(r"\s+", " ", str(text)).replace("&", "&amp;"))
    return _SIGNS.sub(lambda found: re.sub(r"(.)", r"\\\1", found[1]), line)


def fenced(text: Any, language: str = "") -> str:
    """A block of code. Its fence is longer than any run of backticks in the text, so the text cannot end it."""
    longest = max(map(len, re.findall("`+", str(text))), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
