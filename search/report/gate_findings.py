"""The findings on the chosen gate and the front: against random skipping and the published gate, and on test."""

from collections.abc import Sequence

from search.baselines import RANDOM
from search.numbers import p_value
from search.report.finding import Finding, Tone, not_measured, place, skips
from search.selection.advice import WORTH_SKIPPING
from search.selection.differences import TO_CHOSEN, TO_RANDOM
from search.selection.judgement import BEATEN, Judgement, judge
from search.selection.view import LEVEL, Difference, Row, View


def random_skipping(chosen: Row, random: Row | None, view: View, along: str) -> Finding:
    if random is None or not view.measured(random):
        return Finding("note", "Does the gate beat random skipping?", not_measured([f"'{RANDOM}'"]) + along)
    gap = view.difference(random, chosen, TO_CHOSEN).reversed()
    numbers = f"Random skipping scores {place(random, view)}; the chosen gate scores {gap} with {skips(chosen, view)}."
    text = numbers + along
    if view.split == "valid":
        ahead = "ahead of" if gap.value > 0 else "no better than"
        return Finding("note", f"The gate is {ahead} random skipping on validation", text)
    if gap.value <= 0:
        return Finding("bad" if gap.lower else "note", "The gate does not beat random skipping", text)
    if gap.higher:
        return Finding("good", "The gate beats random skipping", text)
    return Finding("note", "The gate is ahead of random skipping, but not clearly", text)


def along_front(front: Sequence[Row], view: View) -> str:
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
        f"score{'s' * (higher == 1)} higher; with all comparisons counted, {above or 'none'} clearly higher and "
        f"{below or 'none'} clearly lower (p {p_value(LEVEL).replace('=', '<')} after Holm's correction)."
    )


def published_gate(chosen: Row, published: Row | None, view: View) -> Finding | None:
    if published is None or not view.measured(published):
        return None
    more, gap = view.skipped(chosen) - view.skipped(published), view.difference(published, chosen, TO_CHOSEN).reversed()
    text = (
        f"The published gate scores {place(published, view)}; the chosen gate scores {gap} and skips "
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


def front_on_test(chosen: Row, random: Row | None, front: Sequence[Row], view: View) -> Finding | None:
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
