"""Overrides of the command line: values are YAML, without comments."""

import pytest

from etarec.config import UserError
from etarec.document_schema import Schema
from etarec.override import parse_override

OPEN = Schema({"properties": {"name": {"type": "string"}}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("clicks #2.csv", "clicks #2.csv"),
        ("#1", "#1"),
        (" # ", "#"),
        ("5 # five", "5 # five"),
        ("a#b", "a#b"),
        ("'a #b'", "a #b"),
        ("['a #b', 2]", ["a #b", 2]),
    ],
)
def test_an_override_has_no_comments(text: str, value: object) -> None:
    assert parse_override(f"name={text}", OPEN) == (("name",), value)


def test_a_comment_after_a_quoted_value_or_a_list_is_named() -> None:
    for text in ("'a' #b", "[1] #b", "{a: 1} #b"):
        with pytest.raises(UserError, match=r'given "#b" after the value, expected nothing there'):
            parse_override(f"name={text}", OPEN)
