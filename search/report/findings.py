"""The findings of a search, as sentences with numbers: pure functions from rows of the result files to text."""

from typing import Literal, NamedTuple

from search.baselines import ALL, NONE, PUBLISHED, RANDOM
from search.report.numbers import higher_or_lower, percent, score, signed, significant
from search.report.view import Difference, Row, Split, View
from search.selection.differences import TO_ALL, TO_CHOSEN, TO_RANDOM, difference_columns

Tone = Literal["good", "bad", "note"]

_LEVEL = 0.05


class Finding(NamedTuple):
    """One answer, and whether it speaks for the adaptation and its gate, against them, or neither."""

    tone: Tone
    title: str
    text: str


def headline(chosen: Row, parameters: str, everything: Row | None, view: View) -> list[str]:
    """The answer in two sentences: the chosen configuration and its numbers; its cost and its saving.

    Args:
        chosen: the chosen point's row.
        parameters: its searched parameters as text.
        everything: the row of the baseline that adapts on every sample.
        view: the columns to quote.
    """
    first = (
        f"Configuration {chosen['trial_id']} ({parameters}) skips {percent(view.filter_rate(chosen))} of the backward "
        f"passes on {view.word}, where its {view.label} is {score(view.quality(chosen))}{view.interval(chosen)}."
    )
    return [first, _cost(chosen, everything, view)]


def findings(chosen: Row, baselines: dict[str, Row], front: list[Row], view: View) -> list[Finding]:
    """Does adapting pay, does the gate beat random skipping and the published gate, does the front hold on test."""
    found = [
        _adapting(chosen, baselines, front, view),
        _random(chosen, baselines.get(RANDOM), view, _along(front, view) if view.split == "test" else ""),
        _published(chosen, baselines.get(PUBLISHED), view),
        _front(chosen, front, view),
    ]
    return [finding for finding in found if finding is not None]


def saving(chosen: Row, everything: Row | None, split: Split) -> float | None:
    """The share of the serving time with `everything` that the chosen point saves; None if unknown.

    None on validation: trials look up the passes they share, so their seconds say nothing about serving.
    """
    if split == "valid":
        return None
    before = everything and everything.get(f"{split}_seconds")
    after = chosen.get(f"{split}_seconds")
    return None if not before or after is None else 1 - after / before


def _cost(chosen: Row, everything: Row | None, view: View) -> str:
    if everything is None:
        return f"The cost is unknown: adapting on every sample (baseline '{ALL}') was not measured."
    text = (
        f"Adapting on every sample scores {score(view.quality(everything))}; the chosen configuration scores "
        f"{view.difference(chosen, everything, TO_ALL)}."
    )
    saved = saving(chosen, everything, view.split)
    if saved is None:
        return f"{text} Serving time was not measured."
    seconds, adapting = (
        " instead of ".join(f"{significant(row.get(f'{view.split}_{column}'))} s" for row in (chosen, everything))
        for column in ("seconds", "adapt_seconds")
    )
    verdict = f"{percent(abs(saved))} {'less' if saved >= 0 else 'more'}"
    return f"{text} Serving takes {seconds}, {verdict}; adapting alone takes {adapting}."


def _adapting(chosen: Row, baselines: dict[str, Row], front: list[Row], view: View) -> Finding:
    none, everything = baselines.get(NONE), baselines.get(ALL)
    if none is None or everything is None:
        missing = [f"'{name}'" for name in (NONE, ALL) if name not in baselines]
        return Finding("note", "Does adapting pay?", _not_measured(missing))
    gain = view.difference(none, everything, TO_ALL).reversed()
    numbers = (
        f"{view.label} on {view.word} is {score(view.quality(none))} without adaptation and "
        f"{score(view.quality(everything))} with adapting on every sample: adapting {_gained(gain)}."
    )
    best = _best(none, everything, front, view)
    if gain.value > 0:
        return _gaining(numbers, gain, chosen, none, best, view)
    text = f"{numbers} {_advice(best, view)}"
    if view.quality(best) > view.quality(none):  # only a point of the front can be
        return Finding("note", "Adapting on every sample gains nothing, adapting on some does", text)
    return Finding("bad", "Adapting gains nothing", text)


def _gaining(numbers: str, gain: Difference, chosen: Row, none: Row, best: Row, view: View) -> Finding:
    """The finding where adapting on every sample is better than no adaptation."""
    above = view.quality(chosen) - view.quality(none)
    kept = _kept(above / gain.value) if above > 0 else f"{_behind(chosen, none, view)} {_advice(best, view)}"
    if view.split == "test" and not gain.significant:
        reason = "The interval includes 0." if gain.measured else "Its interval was not measured."
        return Finding("note", "Whether adapting pays is not settled", f"{numbers} {reason} {kept}")
    if above <= 0:
        return Finding("bad", "Adapting pays, but not as the chosen configuration does it", f"{numbers} {kept}")
    return Finding("good" if view.split == "test" else "note", "Adapting pays", f"{numbers} {kept}")


def _gained(gain: Difference) -> str:
    amount = signed(abs(gain.value)).lstrip("+")
    return f"{'adds' if gain.value > 0 else 'loses'} {amount}{gain.evidence}" if gain.value else "changes nothing"


def _kept(share: float) -> str:
    return f"The chosen configuration keeps {'all' if share >= 1 else percent(share, 0)} of that gain."


def _behind(chosen: Row, none: Row, view: View) -> str:
    """No adaptation against the chosen configuration, which is no better."""
    return (
        "The chosen configuration keeps none of that gain: no adaptation scores "
        f"{view.difference(none, chosen, TO_CHOSEN)}."
    )


def _best(none: Row, everything: Row, front: list[Row], view: View) -> Row:
    """The best of both baselines and the front; among equals the one that skips most, no adaptation first."""
    rows = [none, *(row for row in front if row[view.column] is not None), everything]
    return max(rows, key=lambda row: (view.quality(row), view.filter_rate(row)))


def _advice(best: Row, view: View) -> str:
    ways = {NONE: "serving without adaptation", ALL: "adapting on every sample"}
    way = ways.get(best["trial_id"], f"the front's configuration {best['trial_id']}")
    return (
        f"The best of no adaptation, adapting on every sample and the front is {way}, with {view.label} "
        f"{_place(best, view)}."
    )


def _random(chosen: Row, random: Row | None, view: View, along: str) -> Finding:
    if random is None:
        return Finding("note", "Does the gate beat random skipping?", _not_measured([f"'{RANDOM}'"]) + along)
    gap = view.difference(random, chosen, TO_CHOSEN).reversed()
    numbers = (
        f"Random skipping scores {_place(random, view)} on {view.word}; the chosen gate scores {gap} at "
        f"{percent(view.filter_rate(chosen))}.{along}"
    )
    if gap.value <= 0:
        return Finding("bad", "The gate does not beat random skipping", numbers)
    if view.split == "valid":
        return Finding("note", "The gate is ahead of random skipping on validation", numbers)
    if gap.significant:
        return Finding("good", "The gate beats random skipping", numbers)
    return Finding("note", "The gate is ahead of random skipping, but not significantly", numbers)


def _along(front: list[Row], view: View) -> str:
    """A sentence on all points of the front against random skipping at their own filter rates; empty if unknown."""
    gap, *_, p_holm = difference_columns(TO_RANDOM, view.metric)
    known = [row for row in front if row.get(gap) is not None and row.get(p_holm) is not None]
    if not known:
        return ""
    ahead = sum(row[gap] > 0 for row in known)
    clear = [row[gap] for row in known if row[p_holm] < _LEVEL]
    above, below = (sum(value > 0 for value in clear) or "none", sum(value < 0 for value in clear) or "none")
    return (
        f" On test, {ahead} of {len(known)} front points score higher in {view.label} than random skipping at the same "
        f"filter rate. The difference is significant (Holm p < {_LEVEL}) for {above} of the higher and {below} of the "
        "lower scores. Random skipping at a point's filter rate is interpolated between the measured rates."
    )


def _published(chosen: Row, published: Row | None, view: View) -> Finding | None:
    if published is None:
        return None
    more = view.filter_rate(chosen) - view.filter_rate(published)
    gap = view.quality(chosen) - view.quality(published)
    text = (
        f"The published gate scores {_place(published, view)}; the chosen gate scores {higher_or_lower(gap)} and skips "
        f"{abs(100 * more):.1f} percentage points {'more' if more >= 0 else 'fewer'}."
    )
    if more >= 0 and gap >= 0 and (more or gap):
        return Finding("good", "Better than the published gate in both objectives", text)
    if more <= 0 and gap <= 0 and (more or gap):
        return Finding("bad", "Worse than the published gate in both objectives", text)
    return Finding("note", "Compared with the published gate", text)


def _front(chosen: Row, front: list[Row], view: View) -> Finding | None:
    if len(front) == 1:
        text = "One configuration is at least as good as all others in both objectives, so there is no trade-off."
        return Finding("note", "The front is a single point", text)
    if view.split == "valid":
        return None
    title, beaten = "How the front holds on test", sum(row["on_test_front"] is not True for row in front)
    if not beaten:
        return Finding("note", title, f"On test, all {len(front)} points are still a front among themselves.")
    text = (
        f"On test, {beaten} of the {len(front)} points {'is' if beaten == 1 else 'are'} beaten by another front point"
    )
    if chosen["on_test_front"] is True:
        return Finding("note", title, f"{text}, but not the chosen one.")
    return Finding("bad", title, f"{text}, the chosen one among them." if beaten > 1 else f"{text}: the chosen one.")


def _place(row: Row, view: View) -> str:
    return f"{score(view.quality(row))} at a filter rate of {percent(view.filter_rate(row))}"


def _not_measured(baselines: list[str]) -> str:
    names, verb = " and ".join(baselines), "was" if len(baselines) == 1 else "were"
    return f"Unknown: the baseline{'s' * (len(baselines) > 1)} {names} {verb} not measured."
