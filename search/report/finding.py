"""A finding: one answer of a report with its tone, and the words that all findings share."""

from typing import Literal, NamedTuple

from search.numbers import percent, score
from search.selection.view import Row, View

Tone = Literal["good", "bad", "note"]


class Finding(NamedTuple):
    """One answer, and whether it speaks for the adaptation and its gate, against them, or neither."""

    tone: Tone
    title: str
    text: str


def place(row: Row, view: View) -> str:
    return f"{score(view.quality(row))} with {skips(row, view)}"


def skips(row: Row, view: View) -> str:
    return f"{percent(view.skipped(row))} skipped"


def not_measured(baselines: list[str]) -> str:
    names, verb = " and ".join(baselines), "was" if len(baselines) == 1 else "were"
    return f"Unknown: the baseline{'s' * (len(baselines) > 1)} {names} {verb} not measured."
