"""The findings of a search, as sentences with numbers: pure functions from rows of the result files to text.

The advice is made in search/selection/verdict.py; a finding states facts beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from search.baselines import ALL, NONE, PUBLISHED, RANDOM
from search.numbers import p_value, percent, score, signed
from search.selection.differences import TO_ALL, TO_CHOSEN, TO_NONE, TO_RANDOM
from search.selection.judgement import BEATEN, Judgement, judge
from search.selection.verdict import WORTH_SKIPPING, negligible
from search.selection.view import LEVEL, Difference, Row, View
from search.spec import SearchConfig

Tone = Literal["good", "bad", "note"]


class Finding(NamedTuple):
    """One answer, and whether it speaks for the adaptation and its gate, against them, or neither."""

    tone: Tone
    title: str
    text: str


def findings(
    chosen: Row, baselines: Mapping[str, Row], front: Sequence[Row], view: View, tolerance: float
) -> list[Finding]:
    """Does adapting pay, does the gate beat random skipping and the published gate, does the front hold on test."""
    found = [
        _adapting(chosen, baselines, front, view, tolerance),
        _random(chosen, baselines.get(RANDOM), view, _along(front, view) if view.split == "test" else ""),
        _published(chosen, baselines.get(PUBLISHED), view),
        _front(chosen, baselines.get(RANDOM), front, view),
    ]
    return [finding for finding in found if finding is not None]


def more_trials(gain: float | None, late: float | None, wanted: int) -> Finding | None:
    """Whether more trials would pay, by the sampler's model of the results and by the growth of the front so far.

    gain: the largest expected gain of one more trial, as a share of the area reached; None if unknown. late: the part
    of the area that the last quarter of the trials brought, if that was more than little. wanted: the number of trials
    with which to search on.
    """
    if gain is None:
        return None
    text = f"The model of the results expects the next trial to add {percent(gain)} to the area of the front"
    if late is not None:
        text = f"The last quarter of the trials brought {percent(late)} of the front's area. {text}"
    if gain < SearchConfig().converged_below and late is None:
        return Finding("note", "More trials would hardly pay", f"{text}.")
    command = f"--resume --trials {wanted}"
    return Finding("note", "More trials may pay", f"{text}; the same command with {command} searches on.")


def _adapting(chosen: Row, baselines: Mapping[str, Row], front: Sequence[Row], view: View, tolerance: float) -> Finding:
    none, everything = baselines.get(NONE), baselines.get(ALL)
    if none is None or everything is None or not (view.measured(none) and view.measured(everything)):
        missing = [f"'{name}'" for name in (NONE, ALL) if not view.measured(baselines.get(name))]
        return Finding("note", "Does adapting pay?", _not_measured(missing))
    gain = view.difference(none, everything, TO_ALL).reversed()
    numbers = (
        f"{view.label} on {view.word} is {score(view.quality(none))} without adaptation and "
        f"{score(view.quality(everything))} with adapting on every sample: adapting {_gained(gain)}."
    )
    best = _best(none, everything, front, view)
    if gain.value > 0:
        slight = negligible(gain, view.quality(none), tolerance)
        return _gaining(numbers, gain, chosen, none, best, view, slight)
    text = f"{numbers} {_highest(best, view)}"
    if _some_gain(chosen, none, baselines.get(RANDOM), front, view):
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


def _gaining(numbers: str, gain: Difference, chosen: Row, none: Row, best: Row, view: View, slight: bool) -> Finding:
    """The finding where adapting on every sample scores higher than no adaptation."""
    above = view.quality(chosen) - view.quality(none)
    kept = _kept(above / gain.value) if above > 0 else f"{_behind(chosen, none, view)} {_highest(best, view)}"
    if slight:
        return Finding("note", "Adapting gains next to nothing", f"{numbers} {kept}")
    if view.split == "test" and not gain.significant:
        reason = "The interval includes 0." if gain.measured else "Its interval was not measured."
        return Finding("note", "Whether adapting pays is not settled", f"{numbers} {reason} {kept}")
    own = view.difference(none, chosen, TO_CHOSEN).reversed()
    if own.measured and not own.significant:
        title = "Adapting pays; whether the chosen gate keeps that is not settled"
        return Finding("note", title, f"{numbers} {kept}")
    if above <= 0:
        return Finding("bad", "Adapting pays, but not as the chosen configuration does it", f"{numbers} {kept}")
    return Finding("good" if view.split == "test" else "note", "Adapting pays", f"{numbers} {kept}")


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
    return f"Of no adaptation, adapting on every sample and the front, {way} scores highest: {_place(best, view)}."


def _random(chosen: Row, random: Row | None, view: View, along: str) -> Finding:
    if random is None or not view.measured(random):
        return Finding("note", "Does the gate beat random skipping?", _not_measured([f"'{RANDOM}'"]) + along)
    gap = view.difference(random, chosen, TO_CHOSEN).reversed()
    numbers = (
        f"Random skipping scores {_place(random, view)}; the chosen gate scores {gap} with {_skips(chosen, view)}."
    )
    text = numbers + along
    if view.split == "valid":
        ahead = "ahead of" if gap.value > 0 else "no better than"
        return Finding("note", f"The gate is {ahead} random skipping on validation", text)
    if gap.value <= 0:
        return Finding("bad" if gap.lower else "note", "The gate does not beat random skipping", text)
    if gap.higher:
        return Finding("good", "The gate beats random skipping", text)
    return Finding("note", "The gate is ahead of random skipping, but not clearly", text)


def _along(front: Sequence[Row], view: View) -> str:
    """A sentence on several points of the front, each against random skipping of as many passes; empty if unknown."""
    gaps = [gap for row in front if (gap := view.recorded(row, TO_RANDOM)) and gap.p_holm is not None]
    if len(gaps) < 2:
        return ""
    clear = [gap.value for gap in gaps if gap.survives_holm]
    higher, above, below = (
        sum(gap.value > 0 for gap in gaps), sum(value > 0 for value in clear), sum(value < 0 for value in clear),
    )  # fmt: skip
    return (
        f" Compared with random skipping of as many passes, {higher} of {len(gaps)} front points "
        f"score{'s' * (higher == 1)} higher; {above or 'none'} clearly higher and {below or 'none'} clearly lower "
        f"(p {p_value(LEVEL).replace('=', '<')} after Holm's correction)."
    )


def _published(chosen: Row, published: Row | None, view: View) -> Finding | None:
    if published is None or not view.measured(published):
        return None
    more, gap = view.skipped(chosen) - view.skipped(published), view.difference(published, chosen, TO_CHOSEN).reversed()
    text = (
        f"The published gate scores {_place(published, view)}; the chosen gate scores {gap} and skips "
        f"{abs(100 * more):.1f} percentage points {'more' if more >= 0 else 'less'}."
    )
    quality, skipped = _sign(gap, view), (more >= WORTH_SKIPPING) - (more <= -WORTH_SKIPPING)
    if quality >= 0 and skipped >= 0 and (quality or skipped):
        tone: Tone = "good" if view.split == "test" else "note"
        return Finding(tone, _ahead(quality, skipped, view.label), text)
    if quality < 0 and more <= 0:
        return Finding("bad", "Worse than the published gate in both objectives", text)
    if quality > 0:
        return Finding("note", f"Higher {view.label} than the published gate, but fewer passes skipped", text)
    if quality < 0:
        return Finding("note", f"More passes skipped than by the published gate, but a lower {view.label}", text)
    level = f"The published gate skips more, at about the same {view.label}"
    return Finding("note", level if skipped < 0 else "Level with the published gate", text)


def _sign(gap: Difference, view: View) -> int:
    """1 for a clear gain and -1 for a clear loss by Holm's correction; by its value on validation."""
    clear = gap.survives_holm or view.split == "valid" or not gap.measured
    return ((gap.value > 0) - (gap.value < 0)) if clear else 0


def _ahead(quality: int, skipped: int, label: str) -> str:
    if quality and skipped:
        return "Better than the published gate in both objectives"
    if quality:
        return f"Higher {label} than the published gate, with as many passes skipped"
    return f"More passes skipped than by the published gate, at no clear loss of {label}"


def _front(chosen: Row, random: Row | None, front: Sequence[Row], view: View) -> Finding | None:
    """How many points still hold on test, and what beats the others."""
    if view.split == "valid":
        if len(front) > 1:
            return None
        text = "One configuration is at least as good as all others in both objectives, so there is no trade-off."
        return Finding("note", "The front is a single point", text)
    name = str(chosen["trial_id"])
    judged = {str(row["trial_id"]): judge(row, front, view, name, random) for row in front if view.measured(row)}
    judgements = [one.judgement for one in judged.values()]
    beaten = judgements.count(Judgement.BY_POINT)
    if len(judged) == 1:
        text = f"On test the front's only point {_of_one(judgements[0])}."
    else:
        text = f"On test {_among_themselves(len(judged), beaten)}{_beaten_by_baselines(judgements)}."
    holding, own = judgements.count(Judgement.HOLDS), judged[name].judgement if name in judged else Judgement.HOLDS
    text += "" if own is Judgement.HOLDS else " The chosen configuration does not hold."
    if grouped := sum(row.get("group") not in ("", None, row["trial_id"]) for row in front):
        text += f" {_alike(grouped)} (search.retest: all measures every point)."
    title = f"{holding} of {len(judged)} front points {'holds' if holding == 1 else 'hold'} on test"
    title = "The front is a single point" if len(front) == 1 else title
    return Finding("bad" if own in BEATEN else "note", title, text)


def _alike(count: int) -> str:
    if count == 1:
        return "Validation cannot tell another point from one of these, so it was not measured"
    return f"Validation cannot tell {count} other points from these, so they were not measured"


def _among_themselves(points: int, beaten: int) -> str:
    if not beaten:
        return f"none of the {points} points is clearly beaten by another"
    return f"{beaten} of the {points} points {'is' if beaten == 1 else 'are'} clearly beaten by another front point"


_BEATEN_BY = {
    Judgement.BY_NONE: "worse than not adapting",
    Judgement.AS_NONE: "not clearly better than not adapting",
    Judgement.BY_RANDOM: "worse than random skipping",
    Judgement.AS_RANDOM: "not clearly different from random skipping",
}


def _of_one(judgement: Judgement) -> str:
    return f"is {_BEATEN_BY[judgement]}" if judgement in _BEATEN_BY else "holds"


def _beaten_by_baselines(judged: Sequence[Judgement]) -> str:
    counted = [(judged.count(judgement), words) for judgement, words in _BEATEN_BY.items()]
    return "".join(f"; {count} {'is' if count == 1 else 'are'} {words}" for count, words in counted if count)


def _place(row: Row, view: View) -> str:
    return f"{score(view.quality(row))} with {_skips(row, view)}"


def _skips(row: Row, view: View) -> str:
    return f"{percent(view.skipped(row))} skipped"


def _not_measured(baselines: list[str]) -> str:
    names, verb = " and ".join(baselines), "was" if len(baselines) == 1 else "were"
    return f"Unknown: the baseline{'s' * (len(baselines) > 1)} {names} {verb} not measured."
