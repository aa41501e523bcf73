"""Whether a row of the front or of the baselines holds on test, judged by one rule for all.

A row is beaten by a configuration that skips at least as many passes and scores at least as high: no adaptation, which
skips every pass, random skipping at the same rate, or a point of the front.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from search.baselines import NONE
from search.selection.chance import on_curve
from search.selection.differences import TO_NONE, TO_RANDOM
from search.selection.view import Difference, Row, View


class Judgement(StrEnum):
    """A row's standing on test."""

    HOLDS = "holds"
    AS_NONE = "as none"
    AS_RANDOM = "as random"
    BY_NONE = "below none"
    BY_RANDOM = "below random"
    BY_POINT = "beaten"
    UNKNOWN = ""


MEANINGS = {
    Judgement.HOLDS: "clearly above none and above random skipping, and no front point beats it",
    Judgement.AS_NONE: "not clearly better than no adaptation, which skips every pass",
    Judgement.AS_RANDOM: "not clearly different from random skipping at the same rate",
    Judgement.BY_NONE: "clearly worse than no adaptation",
    Judgement.BY_RANDOM: "clearly worse than random skipping at the same rate",
    Judgement.BY_POINT: "a front point skips at least as much and scores at least as high",
}


class Judged(NamedTuple):
    """A judgement, the paired difference behind it, and the name of the front point that beats the row."""

    judgement: Judgement
    evidence: Difference | None = None
    by: str = ""


def judge(row: Row, front: Iterable[Row], view: View) -> Judged:
    """Judge one row. A comparison that was not measured is left out."""
    if view.split == "valid" or not view.measured(row):
        return Judged(Judgement.UNKNOWN)
    to_none = None if row["trial_id"] == NONE else view.recorded(row, TO_NONE)
    to_random = None if on_curve(str(row["trial_id"])) else view.recorded(row, TO_RANDOM)
    if to_none and to_none.lower:
        return Judged(Judgement.BY_NONE, to_none)
    if to_random and to_random.lower:
        return Judged(Judgement.BY_RANDOM, to_random)
    if by := next((str(other["trial_id"]) for other in front if _beats(other, row, view)), ""):
        return Judged(Judgement.BY_POINT, None, by)
    if to_none and not to_none.higher:
        return Judged(Judgement.AS_NONE, to_none)
    if to_random and not to_random.higher:
        return Judged(Judgement.AS_RANDOM, to_random)
    return Judged(Judgement.HOLDS, to_random or to_none)


def _beats(other: Row, row: Row, view: View) -> bool:
    """Whether a front point is at least as good in both objectives and better in one."""
    if not view.measured(other):
        return False
    quality = view.quality(other) - view.quality(row)
    skipped = view.filter_rate(other) - view.filter_rate(row)
    return quality >= 0 and skipped >= 0 and (quality > 0 or skipped > 0)
