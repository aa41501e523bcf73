"""The advice of a search without a choice, because baselines beat every trial on validation."""

from collections.abc import Mapping

from search.baselines import ALL, NONE
from search.numbers import percent, score
from search.selection.advice import (
    Advice,
    Verdict,
    gain_in_words,
    gain_of_all,
    negligible,
    not_settled,
    without_anchor,
)
from search.selection.differences import TO_NONE
from search.selection.view import Row, View


def advise(baselines: Mapping[str, Row], view: View, tolerance: float, beaten: int) -> Advice:
    """The advice by the baselines alone.

    Args:
        baselines: the baselines' rows by name.
        view: the columns to judge by.
        tolerance: share of the quality that may be lost by skipping.
        beaten: the number of trials that baselines beat on validation, at their end or before.
    """
    if not beaten:
        return not_settled("no trial is recommended.")
    if view.split == "valid":
        return not_settled("the baselines were not measured on test.", "Finish the search before you act on it.")
    if open_question := without_anchor(baselines, view):
        return open_question
    none, gain = view.quality(baselines[NONE]), gain_of_all(baselines, view)
    why, losing = gain_in_words(gain, none, view), in_words(beaten)
    slight = negligible(gain, none, tolerance)
    if gain.value > 0 and not slight:
        if gain.higher:
            return Advice(Verdict.ADAPT_ON_ALL, "Adapt on every sample.", (why, losing))
        return not_settled("adapting is ahead of not adapting, but not clearly.", why, losing)
    if better := better_than_none(baselines, view):
        place = f"{score(view.quality(better))} with {percent(view.skipped(better), 0)} skipped"
        return not_settled(f"{better['trial_id']} is clearly better than not adapting, at {place}.", why, losing)
    title = f"Do not adapt: it gains {'next to nothing' if gain.value > 0 else 'nothing'}."
    return Advice(Verdict.DO_NOT_ADAPT, title, (f"{view.label} without adaptation is {score(none)}.", why, losing))


def in_words(beaten: int) -> str:
    if beaten == 1:
        return "A baseline beats the only trial on validation."
    return f"Each of the {beaten} trials is beaten by a baseline on validation."


def better_than_none(baselines: Mapping[str, Row], view: View) -> Row | None:
    """A fixed gate or random skipping that is clearly better than no adaptation, by Holm's correction."""
    for row in (row for name, row in baselines.items() if name not in (NONE, ALL) and view.measured(row)):
        gap = view.recorded(row, TO_NONE)
        if gap and gap.value > 0 and gap.survives_holm:
            return row
    return None
