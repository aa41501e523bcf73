"""The judgement on test of each row of the front and of the baselines, by one rule for all.

A row is beaten by a configuration that skips at least as many passes and scores clearly higher: no adaptation, which
skips every pass, random skipping at the same rate, or a point of the front. A difference is clear if its paired 95%
interval excludes 0, and against a point of the front if its p-value after Holm's correction is small, because the best
of many points is the rival. The advice judges the front's points by the same rule (`beats`).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from search.baselines import NONE
from search.selection.chance import on_curve
from search.selection.differences import RIVAL, TO_CHOSEN, TO_FRONT, TO_NONE, TO_RANDOM
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
    Judgement.HOLDS: "clearly better than no adaptation and than random skipping of as many passes, unless the row is "
    "one of these itself; no front point beats it clearly",
    Judgement.AS_NONE: "not clearly better than no adaptation, which skips every pass",
    Judgement.AS_RANDOM: "not clearly different from random skipping of as many passes",
    Judgement.BY_NONE: "clearly worse than no adaptation",
    Judgement.BY_RANDOM: "clearly worse than random skipping of as many passes",
    Judgement.BY_POINT: "a front point skips at least as much and scores clearly higher",
}


class Judged(NamedTuple):
    """A judgement, the paired difference behind it, and the name of the front point that beats the row."""

    judgement: Judgement
    evidence: Difference | None = None
    by: str = ""


BEATEN = frozenset({Judgement.BY_NONE, Judgement.BY_RANDOM, Judgement.BY_POINT})


def judge(row: Row, front: Iterable[Row], view: View, chosen: str = "", random: Row | None = None) -> Judged:
    """Judge one row. A comparison that was not measured is left out.

    Args:
        row: of the front or the baselines.
        front: the front's rows.
        view: the columns to judge by.
        chosen: the chosen point's name, with which all rows are compared.
        random: random skipping at the chosen point's rate, by which the chosen point is judged.
    """
    if view.split == "valid" or not view.measured(row):
        return Judged(Judgement.UNKNOWN)
    to_none = None if row["trial_id"] == NONE else view.recorded(row, TO_NONE)
    to_random = None if on_curve(str(row["trial_id"])) else view.recorded(row, TO_RANDOM)
    if row["trial_id"] == chosen and random and (matched := view.recorded(random, TO_CHOSEN)):
        to_random = matched.reversed()
    if to_none and to_none.lower:
        return Judged(Judgement.BY_NONE, to_none)
    if to_random and to_random.lower:
        return Judged(Judgement.BY_RANDOM, to_random)
    for other in front:
        gap = beats(other, row, view, chosen)
        if gap:
            return Judged(Judgement.BY_POINT, gap, str(other["trial_id"]))
    if to_none and not to_none.higher:
        return Judged(Judgement.AS_NONE, to_none)
    if to_random and not to_random.higher:
        return Judged(Judgement.AS_RANDOM, to_random)
    return Judged(Judgement.HOLDS, to_random or to_none)


def beats(other: Row, row: Row, view: View, chosen: str) -> Difference | None:
    """The difference by which a front point is clearly better than a row and skips at least as much; None if not."""
    if not view.measured(other) or view.skipped(other) < view.skipped(row) or dearer(other, row):
        return None
    gap = _paired(other, row, view, chosen)
    return gap if gap and gap.value > 0 and gap.survives_holm else None


def dearer(other: Row, row: Row) -> bool:
    """Whether a row costs more on test than another one, in a search in which the cost is measured."""
    costs = other.get("test_cost"), row.get("test_cost")
    return costs[0] is not None and costs[1] is not None and costs[0] > costs[1]


def _paired(other: Row, row: Row, view: View, chosen: str) -> Difference | None:
    """`other` minus `row`, where the files hold that comparison."""
    if row["trial_id"] == chosen:
        return view.recorded(other, TO_CHOSEN)
    if other["trial_id"] == chosen:
        found = view.recorded(row, TO_CHOSEN)
    else:
        found = view.recorded(row, TO_FRONT) if row.get(RIVAL) == other["trial_id"] else None
    return found.reversed() if found else None
