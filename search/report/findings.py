"""What a finished search says, in sentences with numbers: pure functions from rows of the result files to text.

A row is a dict of one line of pareto.csv or baselines.csv; a value that was not measured is None. `Split` says which of
its columns are read: `test`, or `valid` when the search ended before the test split was measured.
"""

from typing import Any, Literal, NamedTuple

Row = dict[str, Any]
Split = Literal["test", "valid"]
Tone = Literal["good", "bad", "note"]

_LEVEL = 0.05
_DASH = "\N{EN DASH}"

SPLIT_WORDS: dict[Split, str] = {"test": "test", "valid": "validation"}


class Finding(NamedTuple):
    """One answer and whether it speaks for the adaptation and its gate, against them, or neither."""

    tone: Tone
    title: str
    text: str


def hit_rate(value: float | None) -> str:
    """0.0875; a dash if not measured."""
    return _DASH if value is None else f"{value:.4f}"


def percent(value: float | None, decimals: int = 1) -> str:
    """43.2%; a dash if not measured."""
    return _DASH if value is None else f"{100 * value:.{decimals}f}%"


def signed(value: float | None) -> str:
    """+0.0012 or -0.0012 with a true minus sign, one digit more where that would hide the sign of a bound."""
    if value is None:
        return _DASH
    digits = 4 if abs(value) >= 0.00005 else 5
    return _minus(f"{value:+.{digits}f}") if abs(value) >= 0.000005 else "0.0000"


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, for p-values, thresholds and seconds."""
    if value is None:
        return _DASH
    return f"{value:,.0f}" if abs(value) >= 10**digits else _minus(f"{value:.{digits}g}")


def correlation(value: float | None) -> str:
    """+0.62; a dash if it is not defined."""
    return _DASH if value is None else _minus(f"{value:+.2f}")


def difference(row: Row, metric: str = "hr_at_10") -> str | None:
    """The row's difference on test to adapting on every sample, with its interval and p-value."""
    name = f"test_delta_{metric}"
    if row.get(name) is None:
        return None
    text = signed(row[name])
    if row.get(f"{name}_low") is not None and row.get(f"{name}_high") is not None:
        text += f", 95% interval {signed(row[f'{name}_low'])} to {signed(row[f'{name}_high'])}"
    return text if row.get(f"{name}_p") is None else f"{text}, p = {significant(row[f'{name}_p'])}"


def headline(chosen: Row, parameters: str, everything: Row | None, split: Split) -> list[str]:
    """The answer in two sentences: what was chosen and what it does; what that costs and saves.

    Args:
        chosen: the chosen point's row.
        parameters: its searched parameters as text.
        everything: the row of the baseline that adapts on every sample.
        split: where the numbers are from.
    """
    word = SPLIT_WORDS[split]
    interval = ""
    if split == "test" and chosen.get("test_hr_at_10_low") is not None:
        interval = (
            f" (95% interval {hit_rate(chosen['test_hr_at_10_low'])} to {hit_rate(chosen['test_hr_at_10_high'])})"
        )
    first = (
        f"Configuration {chosen['trial_id']} ({parameters}) skips {percent(chosen[f'{split}_filter_rate'])} of the "
        f"backward passes on {word}, where its HR@10 is {hit_rate(chosen[f'{split}_hr_at_10'])}{interval}."
    )
    return [first, _cost(chosen, everything, split)]


def findings(chosen: Row, baselines: dict[str, Row], front: list[Row], split: Split) -> list[Finding]:
    """Does adapting pay, does the gate beat chance and the published gate, does the front hold on test."""
    found = [
        _adapting(chosen, baselines, front, split),
        _chance(chosen, baselines.get("random"), split, _along(front) if split == "test" else ""),
        _published(chosen, baselines.get("published"), split),
        _front(chosen, front, split),
    ]
    return [finding for finding in found if finding is not None]


def saving(chosen: Row, everything: Row | None, split: Split) -> float | None:
    """Share of the seconds that serving takes with `everything` which the chosen point saves; None if unknown.

    On validation they are: what all trials have in common is looked up there.
    """
    if split == "valid":
        return None
    before = everything and everything.get(f"{split}_seconds")
    after = chosen.get(f"{split}_seconds")
    return None if not before or after is None else 1 - after / before


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def _gap(a: Row, b: Row, split: Split) -> float:
    return float(a[f"{split}_hr_at_10"] - b[f"{split}_hr_at_10"])


def _place(row: Row, split: Split) -> str:
    return f"{hit_rate(row[f'{split}_hr_at_10'])} at a filter rate of {percent(row[f'{split}_filter_rate'])}"


def _cost(chosen: Row, everything: Row | None, split: Split) -> str:
    if everything is None:
        return "What that costs is unknown: adapting on every sample (baseline 'all') was not measured."
    measured = difference(chosen) if split == "test" else None
    delta = measured or signed(_gap(chosen, everything, split))
    text = f"Adapting on every sample gives {hit_rate(everything[f'{split}_hr_at_10'])} (difference {delta})"
    saved = saving(chosen, everything, split)
    if saved is None:
        return f"{text}; the seconds were not measured."
    before, after = (significant(row[f"{split}_seconds"]) for row in (everything, chosen))
    verdict = f"{percent(saved)} less" if saved >= 0 else f"{percent(-saved)} more"
    adapting = " instead of ".join(
        f"{significant(row.get(f'{split}_adapt_seconds'))} s" for row in (chosen, everything)
    )
    return f"{text}; serving took {after} s instead of {before} s, {verdict} (of these, adapting {adapting})."


def _adapting(chosen: Row, baselines: dict[str, Row], front: list[Row], split: Split) -> Finding:
    frozen, everything = baselines.get("none"), baselines.get("all")
    if frozen is None or everything is None:
        missing = " and ".join(f'"{name}"' for name in ("none", "all") if name not in baselines)
        return Finding("note", "Is adapting worth it?", f"Unknown: the baseline {missing} was not measured.")
    gain = -_gap(frozen, everything, split)
    numbers = (
        f"HR@10 on {SPLIT_WORDS[split]} is {hit_rate(frozen[f'{split}_hr_at_10'])} without adaptation and "
        f"{hit_rate(everything[f'{split}_hr_at_10'])} when every sample is adapted on"
    )
    delta = difference(frozen) if split == "test" else None
    numbers += (
        f" (no adaptation minus everything: {delta})."
        if delta
        else f" (no adaptation minus everything: {signed(-gain)})."
    )
    best = _best(frozen, everything, front, split)
    if gain <= 0:
        gains = _gap(best, frozen, split) > 0  # only a point of the front can
        title = "Adapting on every sample gains nothing, adapting on some does" if gains else "Adapting gains nothing"
        return Finding("note" if gains else "bad", title, f"{numbers} {_advice(best, split)}")
    keeps = _gap(chosen, frozen, split) > 0
    kept = f" {_kept(chosen, frozen, everything, gain, split)}"
    if not keeps:
        kept = f" {_behind(chosen, frozen, split)} {_advice(best, split)}"
    if split == "test" and _touches_zero(frozen):
        return Finding("note", "Whether adapting helps is not settled", numbers + " The interval includes 0." + kept)
    if not keeps:
        return Finding("bad", "Adapting pays, but not as the chosen configuration does it", numbers + kept)
    return Finding("good" if split == "test" else "note", "Adapting pays", numbers + kept)


def _kept(chosen: Row, frozen: Row, everything: Row, gain: float, split: Split) -> str:
    above = _gap(chosen, frozen, split)
    if _gap(chosen, everything, split) >= 0:
        return "The chosen configuration keeps all of that gain."
    return f"The chosen configuration keeps {percent(above / gain, 0)} of that gain."


def _behind(chosen: Row, frozen: Row, split: Split) -> str:
    """No adaptation against the chosen configuration, which is no better; the interval is in the baseline's row."""
    text = (
        "The chosen configuration keeps none of that gain: no adaptation is "
        f"{signed(_gap(frozen, chosen, split))} from it in HR@10"
    )
    low, high, p = (frozen.get(f"test_vs_chosen_hr_at_10_{name}") for name in ("low", "high", "p"))
    if split == "test" and low is not None and high is not None and p is not None:
        text += f", 95% interval {signed(low)} to {signed(high)}, p = {significant(p)}"
    return f"{text}."


def _best(frozen: Row, everything: Row, front: list[Row], split: Split) -> Row:
    """The highest HR@10 among both baselines and the front; of equal ones the one that skips most, `none` first."""
    rows = [frozen, *(row for row in front if row[f"{split}_hr_at_10"] is not None), everything]
    return max(rows, key=lambda row: (row[f"{split}_hr_at_10"], row[f"{split}_filter_rate"]))


def _advice(best: Row, split: Split) -> str:
    ways = {"none": "serving without adaptation", "all": "adapting on every sample"}
    way = ways.get(best["trial_id"], f"the front's configuration {best['trial_id']}")
    return f"Of no adaptation, adapting on every sample and the front, {way} is best: HR@10 {_place(best, split)}."


def _touches_zero(row: Row) -> bool:
    low, high = row.get("test_delta_hr_at_10_low"), row.get("test_delta_hr_at_10_high")
    return low is None or high is None or low <= 0 <= high


def _chance(chosen: Row, random: Row | None, split: Split, along: str) -> Finding:
    if random is None:
        return Finding("note", "Does the gate beat chance?", f"Unknown: the baseline 'random' was not measured.{along}")
    gap = _gap(chosen, random, split)
    numbers = (
        f"A gate that skips at random gets {_place(random, split)} on {SPLIT_WORDS[split]}, "
        f"the chosen one {_place(chosen, split)} (difference in HR@10 {signed(gap)})."
    )
    if gap <= 0:
        return Finding("bad", "The gate does not beat chance", numbers + along)
    if split == "valid":
        return Finding("note", "The gate is ahead of chance on validation", numbers)
    low, high, p = (random.get(f"test_vs_chosen_hr_at_10_{name}") for name in ("low", "high", "p"))
    if low is None or high is None or p is None:
        return Finding("note", "The gate is ahead of chance, but not clearly", numbers + along)
    # The file has random minus chosen; the sentence says chosen minus random.
    text = f"{numbers} Paired over users: 95% interval {signed(-high)} to {signed(-low)}, p = {p:.3g}.{along}"
    if high < 0:
        return Finding("good", "The gate beats chance", text)
    return Finding("note", "The gate is ahead of chance, but not clearly", text)


def _along(front: list[Row]) -> str:
    """One sentence on all points of the front against chance at their own filter rates; empty if that is unknown."""
    name = "test_vs_random_hr_at_10"
    known = [row for row in front if row.get(name) is not None and row.get(f"{name}_p_holm") is not None]
    if not known:
        return ""
    clear = [row[name] for row in known if row[f"{name}_p_holm"] < _LEVEL]
    above, below = (sum(gap > 0 for gap in clear), sum(gap < 0 for gap in clear))
    ahead = sum(row[name] > 0 for row in known)
    return (
        f" At their own filter rates {ahead} of {len(known)} front points are ahead of chance in HR@10 on test, "
        f"{above or 'none'} of them clearly (Holm p < {_LEVEL}), and {below or 'none'} clearly behind; chance there is "
        "interpolated between the gates at random around each point."
    )


def _published(chosen: Row, published: Row | None, split: Split) -> Finding | None:
    if published is None:
        return None
    more = chosen[f"{split}_filter_rate"] - published[f"{split}_filter_rate"]
    gap = _gap(chosen, published, split)
    text = (
        f"The published gate gets {_place(published, split)}; the chosen one skips {_points(more)} "
        f"and differs by {signed(gap)} in HR@10."
    )
    if more >= 0 and gap >= 0 and (more or gap):
        return Finding("good", "Better than the published gate in both", text)
    if more <= 0 and gap <= 0 and (more or gap):
        return Finding("bad", "Worse than the published gate in both", text)
    return Finding("note", "Against the published gate", text)


def _points(share: float) -> str:
    return f"{abs(100 * share):.1f} percentage points {'more' if share >= 0 else 'fewer'}"


def _front(chosen: Row, front: list[Row], split: Split) -> Finding | None:
    if len(front) == 1:
        text = "One configuration beats or equals all others in both objectives, so nothing had to be traded off."
        return Finding("note", "The front is a single point", text)
    if split == "valid":
        return None
    holding = sum(row["on_test_front"] is True for row in front)
    is_chosen_there = "is" if chosen["on_test_front"] is True else "is not"
    text = (
        f"{holding} of the front's {len(front)} points are beaten by no other of them on test either; "
        f"the chosen one {is_chosen_there} among them."
    )
    tone: Tone = "note" if chosen["on_test_front"] is True else "bad"
    return Finding(tone, "How the front holds on test", text)
