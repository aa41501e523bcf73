"""The kinds of advice after a search, and the sentences that every kind shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from search.baselines import ALL, NONE
from search.numbers import percent
from search.selection.differences import TO_ALL
from search.selection.view import Difference, Row, View

WORTH_SKIPPING = 0.01  # a smaller share of skipped passes counts as adapting on every sample


class Verdict(StrEnum):
    """The kinds of advice after a search."""

    USE = "use_chosen"
    SKIP_AT_RANDOM = "skip_at_random"
    ADAPT_ON_ALL = "adapt_on_all"
    DO_NOT_ADAPT = "do_not_adapt"
    NOT_SETTLED = "not_settled"


@dataclass(frozen=True)
class Advice:
    """A verdict in words: what to do, in one sentence, and the numbers behind it."""

    verdict: Verdict
    title: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.title, *self.reasons))


def not_settled(reason: str, *more: str) -> Advice:
    return Advice(Verdict.NOT_SETTLED, f"Not settled: {reason}", more)


def without_anchor(baselines: Mapping[str, Row], view: View) -> Advice | None:
    """The advice where no adaptation or adapting on every sample was not measured; None where both were."""
    missing = [f"'{name}'" for name in (NONE, ALL) if not view.measured(baselines.get(name))]
    if not missing:
        return None
    verb = "was" if len(missing) == 1 else "were"
    return not_settled(f"the baseline{'s' * (len(missing) > 1)} {' and '.join(missing)} {verb} not measured.")


def gain_of_all(baselines: Mapping[str, Row], view: View) -> Difference:
    """Adapting on every sample minus no adaptation."""
    return view.difference(baselines[NONE], baselines[ALL], TO_ALL).reversed()


def gain_in_words(gain: Difference, none: float, view: View) -> str:
    """The gain of adapting on every sample, as a share of the quality without adaptation."""
    relative = gain.relative(none)
    does = "adds" if relative.value > 0 else "costs" if relative.value < 0 else "changes nothing:"
    relative = relative if relative.value >= 0 else relative.reversed()
    return f"Adapting on every sample {does} {percent(relative.value)}{relative.percents} of {view.label}."


def negligible(gain: Difference, reference: float, tolerance: float) -> bool:
    """Whether a gain is at most the share of the reference that may be lost, by its whole interval."""
    return gain.high is not None and gain.high <= tolerance * reference
