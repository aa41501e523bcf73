"""Tables as CSV in which no text can act as a formula when a spreadsheet opens the file."""

import csv
import io
from collections.abc import Iterable
from typing import Any

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: wide forms


def inert(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a `'` in front; numbers, also as text, stay as they are.

    A carriage return, which Python's csv leaves unquoted and readers take for the end of a line, is written as `\\r`.
    Source: OWASP, CSV Injection.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def of_frame(frame: pd.DataFrame) -> str:
    """The CSV text of a table, without its index."""
    texts = frame.select_dtypes(exclude=["number", "bool"])
    inert_texts = {str(name): pd.Series(map(inert, texts[name]), frame.index, object) for name in texts}
    return frame.assign(**inert_texts).to_csv(index=False)


def of_rows(rows: Iterable[Iterable[Any]]) -> str:
    """The CSV text of rows of values, the first of which holds the names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(inert, row) for row in rows)
    return text.getvalue()
