"""The findings of a search, as sentences with numbers: pure functions from rows of the result files to text.

The advice is made in search/selection/verdict.py; a finding states facts beside it. Findings on the gate and the front
are made in gate_findings.py.
"""

from collections.abc import Mapping, Sequence

from search.baselines import ALL, NONE, PUBLISHED, RANDOM
from search.numbers import percent, score, signed
from search.report import gate_findings
from search.report.finding import Finding, not_measured, place
from search.selection.advice import negligible
from search.selection.differences import TO_ALL, TO_CHOSEN, TO_NONE
from search.selection.view import Difference, Row, View
from search.selection.without_choice import better_than_none, in_words
from search.spec import SearchConfig


def findings(
    chosen: Row, baselines: Mapping[str, Row], front: Sequence[Row], view: View, tolerance: float
) -> list[Finding]:
    """Does adapting pay, does the gate beat random skipping and the published gate, does the front hold on test."""
    along = gate_findings.along_front(front, view) if view.split == "test" else ""
    found = [
        _adapting(chosen, baselines, front, view, tolerance),
        gate_findings.random_skipping(chosen, baselines.get(RANDOM), view, along),
        gate_findings.published_gate(chosen, baselines.get(PUBLISHED), view),
        gate_findings.front_on_test(chosen, baselines.get(RANDOM), front, view),
    ]
    return [finding for finding in found if finding is not None]


def without_choice(baselines: Mapping[str, Row], view: View, tolerance: float, beaten: int) -> list[Finding]:
    """The findings where baselines beat all trials on validation; `beaten` counts these."""
    adapting = _adapting(None, baselines, (), view, tolerance)
    return [adapting, Finding("bad", "No trial is on the front", in_words(beaten))]


def more_trials(gain: float | None, late: float | None, wanted: int, *, bounded: bool = False) -> Finding | None:
    """Whether more trials would pay, by the sampler's model of the results and by the growth of the front so far.

    gain: the largest expected gain of one more trial, as a share of the area reached; None if unknown. late: the part
    of the area that the last quarter of the trials brought, if that was more than little. wanted: the number of trials
    with which to search on. bounded: whether constraints bound the area of `gain`.
    """
    if gain is None:
        return None
    area = "the front's area within the constraints" if bounded else "the area of the front"
    text = f"The model of the results expects the next trial to add {percent(gain)} to {area}"
    if late is not None:
        text = f"The last quarter of the trials brought {percent(late)} of the front's area. {text}"
    if gain < SearchConfig().converged_below and late is None:
        return Finding("note", "More trials would hardly pay", f"{text}.")
    command = f"--resume --trials {wanted}"
    return Finding("note", "More trials may pay", f"{text}; the same command with {command} searches on.")


def _adapting(
    chosen: Row | None, baselines: Mapping[str, Row], front: Sequence[Row], view: View, tolerance: float
) -> Finding:
    none, everything = baselines.get(NONE), baselines.get(ALL)
    if none is None or everything is None or not (view.measured(none) and view.measured(everything)):
        missing = [f"'{name}'" for name in (NONE, ALL) if not view.measured(baselines.get(name))]
        return Finding("note", "Does adapting pay?", not_measured(missing))
    gain = view.difference(none, everything, TO_ALL).reversed()
    numbers = (
        f"{view.label} on {view.word} is {score(view.quality(none))} without adaptation and "
        f"{score(view.quality(everything))} with adapting on every sample: adapting {_gained(gain)}."
    )
    best = _best(none, everything, front, view)
    if gain.value > 0:
        slight = negligible(gain, view.quality(none), tolerance)
        return _gaining(numbers, gain, chosen, none, best, view, slight)
    text = f"{numbers} {_highest(best, view)}" if chosen else numbers
    random = baselines.get(RANDOM)
    if _some_gain(chosen, none, random, front, view) if chosen else better_than_none(baselines, view):
        return Finding("note", "Adapting on all gains nothing, adapting on some scores higher", text)
    return Finding("bad", "Adapting gains nothing", text)


def _some_gain(chosen: Row, none: Row, random: Row | None, front: Sequence[Row], view: View) -> bool:
    """Whether adapting on some samples scores higher than no adaptation, by the rules of the verdict.

    On validation the values decide.
    """
    if view.split == "valid":
        return any(view.quality(row) > view.quality(none) for row in front if view.measured(row))
    gaps = [view.difference(none, chosen, TO_CHOSEN).reversed()]
    gaps += [view.difference(random, none, TO_NONE)] if random and view.measured(random) else []
    others = [view.difference(row, none, TO_NONE) for row in front if view.measured(row)]
    return any(gap.value > 0 and gap.higher for gap in gaps) or any(
        gap.value > 0 and gap.survives_holm for gap in others
    )


def _gaining(
    numbers: str, gain: Difference, chosen: Row | None, none: Row, best: Row, view: View, slight: bool
) -> Finding:
    """The finding where adapting on every sample scores higher than no adaptation."""
    above = view.quality(chosen) - view.quality(none) if chosen else gain.value
    kept = ""
    if chosen and above > 0:
        kept = f" {_kept(above / gain.value)}"
    elif chosen:
        kept = f" {_behind(chosen, none, view)} {_highest(best, view)}"
    if slight:
        return Finding("note", "Adapting gains next to nothing", numbers + kept)
    if view.split == "test" and not gain.significant:
        reason = "The interval includes 0." if gain.measured else "Its interval was not measured."
        return Finding("note", "Whether adapting pays is not settled", f"{numbers} {reason}{kept}")
    if chosen:
        return _kept_by_choice(f"{numbers}{kept}", view.difference(none, chosen, TO_CHOSEN).reversed(), view)
    return Finding("good" if view.split == "test" else "note", "Adapting pays", numbers)


def _kept_by_choice(text: str, own: Difference, view: View) -> Finding:
    """The finding where adapting on every sample clearly pays; `own` is the gain of the chosen configuration."""
    if own.measured and not own.significant:
        return Finding("note", "Adapting pays; whether the chosen gate keeps that is not settled", text)
    if own.value <= 0:
        return Finding("bad", "Adapting pays, but not as the chosen configuration does it", text)
    return Finding("good" if view.split == "test" else "note", "Adapting pays", text)


def _gained(gain: Difference) -> str:
    amount = signed(abs(gain.value)).lstrip("+")
    evidence = gain.evidence if gain.value > 0 else gain.reversed().evidence
    return f"{'adds' if gain.value > 0 else 'loses'} {amount}{evidence}" if gain.value else "changes nothing"


def _kept(share: float) -> str:
    amount = "all" if share >= 1 else percent(share, 1 if share > 0.995 else 0)
    return f"The chosen configuration keeps {amount} of that gain."


def _behind(chosen: Row, none: Row, view: View) -> str:
    """No adaptation against the chosen configuration, which is no better."""
    return (
        "The chosen configuration keeps none of that gain: no adaptation scores "
        f"{view.difference(none, chosen, TO_CHOSEN)}."
    )


def _best(none: Row, everything: Row, front: Sequence[Row], view: View) -> Row:
    """The best of both baselines and the front; among equals the one that skips most, no adaptation first."""
    rows = [none, *(row for row in front if view.measured(row)), everything]
    return max(rows, key=lambda row: (view.quality(row), view.filter_rate(row)))


def _highest(best: Row, view: View) -> str:
    ways = {NONE: "no adaptation", ALL: "adapting on every sample"}
    way = ways.get(best["trial_id"], f"the front's {best['trial_id']}")
    return f"The best of no adaptation, adapting on every sample and the front is {way}: {place(best, view)}."
