"""The advice of a search, from its measurements on test: the verdict and its words, for page, terminal and MLflow.

Three baselines frame the chosen configuration: no adaptation skips every pass, adapting on every sample skips none, and
random skipping skips as many as the chosen gate. A cost is the loss in quality against adapting on every sample, as a
share of its quality; the user tolerates a cost of `search.choose.tolerance`, or of 2% where `search.constraints` has
the bound ">= 0.98 * all". A difference is clear if its paired 95% interval excludes 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from search.baselines import ALL, FIXED_GATES, NONE, RANDOM
from search.numbers import percent, score
from search.selection import without_choice
from search.selection.advice import (
    WORTH_SKIPPING,
    Advice,
    Verdict,
    gain_in_words,
    gain_of_all,
    negligible,
    not_settled,
    without_anchor,
)
from search.selection.differences import TO_ALL, TO_CHOSEN, TO_NONE, Kind
from search.selection.judgement import dearer
from search.selection.view import Difference, Row, View


def advise(
    chosen: Row | None, baselines: Mapping[str, Row], front: Sequence[Row], view: View, tolerance: float,
    beaten: int = 0,
) -> Advice:  # fmt: skip
    """The advice on a search.

    Args:
        chosen: the chosen point's row; None where no trial is recommended.
        baselines: the baselines' rows by name.
        front: the rows of the front.
        view: the columns to judge by.
        tolerance: share of the quality that may be lost by skipping.
        beaten: the number of trials that baselines beat on validation, where no trial is recommended.
    """
    if chosen is None:
        return without_choice.advise(baselines, view, tolerance, beaten)
    if view.split == "valid" or not view.measured(chosen):
        return not_settled("the choice was not measured on test.", "Finish the search before you act on it.")
    if open_question := without_anchor(baselines, view):
        return open_question
    return _Case(chosen, baselines, front, view, tolerance).advice()


@dataclass(frozen=True)
class _Case:
    """A chosen point that was measured on test, as `none` and `all` were; `random` may be missing."""

    chosen: Row
    baselines: Mapping[str, Row]
    front: Sequence[Row]
    view: View
    tolerance: float

    @cached_property
    def none(self) -> Row:
        return self.baselines[NONE]

    @cached_property
    def all(self) -> Row:
        return self.baselines[ALL]

    @cached_property
    def random(self) -> Row | None:
        row = self.baselines.get(RANDOM)
        return row if self.view.measured(row) else None

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """The gain of each way to adapt over no adaptation."""
        gains = {
            ALL: gain_of_all(self.baselines, self.view),
            self.name: self.view.difference(self.none, self.chosen, TO_CHOSEN).reversed(),
        }
        if self.random:
            gains[RANDOM] = self.view.difference(self.random, self.none, TO_NONE)
        return gains

    @cached_property
    def cost(self) -> Difference:
        """The chosen point's difference, relative to adapting on every sample."""
        return self._relative(self.view.difference(self.chosen, self.all, TO_ALL).reversed())

    @cached_property
    def random_cost(self) -> Difference | None:
        """The quality that random skipping loses, relative to adapting on every sample."""
        return self._relative(self.view.difference(self.random, self.all, TO_ALL).reversed()) if self.random else None

    @cached_property
    def gate(self) -> Difference | None:
        """The chosen gate against random skipping."""
        return self.view.difference(self.random, self.chosen, TO_CHOSEN).reversed() if self.random else None

    @property
    def name(self) -> str:
        return str(self.chosen["trial_id"])

    def _relative(self, difference: Difference) -> Difference:
        return difference.relative(self.view.quality(self.all))

    def advice(self) -> Advice:
        if max(gain.value for gain in self.gains.values()) <= 0 or self._gains_are_negligible():
            return self._do_not_adapt()
        if not any(gain.higher for gain in self.gains.values()):
            reasons = self._gain(), self._cost_of_skipping()
            return not_settled("adapting is ahead of not adapting, but not clearly.", *reasons)
        if self.view.skipped(self.chosen) < WORTH_SKIPPING:
            return self._adapt_on_all("The search found no pass that can be skipped.")
        if self.gate is None:
            return self._without_random()
        return self._better_than_random() if self.gate.higher else self._no_better_than_random(self.gate)

    def _gains_are_negligible(self) -> bool:
        return all(negligible(gain, self.view.quality(self.none), self.tolerance) for gain in self.gains.values())

    def _do_not_adapt(self) -> Advice:
        if rival := self._rival(TO_NONE):
            return self._confirm(rival, "not adapting")
        words = "it gains nothing" if max(g.value for g in self.gains.values()) <= 0 else "it gains next to nothing"
        kept = f"{self.view.label} without adaptation is {score(self.view.quality(self.none))}."
        return Advice(Verdict.DO_NOT_ADAPT, f"Do not adapt: {words}.", (kept, self._gain(), self._chosen_gain()))

    def _without_random(self) -> Advice:
        if self.cost.low is not None and self.cost.low > self.tolerance:
            return self._adapt_on_all(self._too_dear())
        text = "whether the gate beats random skipping is unknown: the baseline 'random' was not measured."
        return not_settled(text, self._gain(), self._cost_of_skipping())

    def _better_than_random(self) -> Advice:
        if self.cost.value <= self.tolerance:
            return self._use()
        if self.cost.low is None or self.cost.low <= self.tolerance:
            text = f"skipping may cost more than the {percent(self.tolerance)} of {self.view.label} that is tolerated."
            return not_settled(text, self._cost_of_skipping(), self._gain())
        return self._adapt_on_all(f"{self._too_dear()} The gate does beat random skipping.")

    def _no_better_than_random(self, gate: Difference) -> Advice:
        assert self.random is not None and self.random_cost is not None
        if self.random_cost.value <= self.tolerance and self.gains[RANDOM].higher:
            return self._skip_at_random(gate)
        if self.cost.value <= self.tolerance:
            return not_settled(
                "the gate is ahead of random skipping, but not clearly.", self._cost_of_skipping(), self._gain()
            )
        return self._adapt_on_all(f"{self._too_dear()} The gate is no better than random skipping.")

    def _use(self) -> Advice:
        if not self.gains[self.name].higher:
            reasons = self._chosen_gain(), self._gain()
            return not_settled(f"{self.name} is not clearly better than not adapting.", *reasons)
        if rival := self._rival(TO_CHOSEN, at_least=self.view.skipped(self.chosen)):
            return self._confirm(rival, f"{self.name} and skips at least as much")
        title = f"Use {self.name}: skip {self._share(self.chosen)} of the passes {self._price(self.cost)}."
        cost = self._cost_in_words()
        return Advice(Verdict.USE, title, (cost[0].upper() + cost[1:], self._gain()))

    def _skip_at_random(self, gate: Difference) -> Advice:
        assert self.random is not None and self.random_cost is not None
        title = f"Skip {self._share(self.random)} of the passes at random {self._price(self.random_cost)}."
        level = "clearly worse than" if gate.lower else "no better than"
        why = f"The gate of {self.name} is {level} that: its {self.view.label} is {gate}."
        return Advice(Verdict.SKIP_AT_RANDOM, title, (why, self._gain()))

    def _adapt_on_all(self, why: str) -> Advice:
        if not self.gains[ALL].higher:
            return not_settled("adapting on every sample is not clearly better than not adapting.", self._gain(), why)
        if rival := self._rival(TO_ALL):
            return self._confirm(rival, "adapting on every sample")
        return Advice(Verdict.ADAPT_ON_ALL, "Adapt on every sample.", (self._gain(), why))

    def _rival(self, kind: Kind, at_least: float = 0.0) -> Row | None:
        """A front point or gate that is clearly better than another row, by Holm's correction, and skips a share."""
        fixed = (self.baselines[name] for name in FIXED_GATES if name in self.baselines)
        for row in (*self.front, *fixed):
            gap = self.view.recorded(row, kind) if self.view.measured(row) else None
            if kind == TO_CHOSEN and dearer(row, self.chosen):
                continue
            if gap and gap.value > 0 and gap.survives_holm and self.view.skipped(row) >= at_least:
                return row
        return None

    def _confirm(self, rival: Row, other: str) -> Advice:
        name = str(rival["trial_id"])
        name = f"the {name} gate" if name in FIXED_GATES else f"{name}, which was not the choice,"
        text = f"{name} is clearly better than {other}."
        return not_settled(text, self._place(rival), self._place(self.chosen), self._gain())

    def _gain(self) -> str:
        return gain_in_words(self.gains[ALL], self.view.quality(self.none), self.view)

    def _chosen_gain(self) -> str:
        return f"Against not adapting, {self.name} scores {self.gains[self.name]}."

    def _too_dear(self) -> str:
        return (
            f"{self.name} skips {self._share(self.chosen)} of the passes and loses {percent(self.cost.value)} of "
            f"{self.view.label}{self.cost.percents}, where {percent(self.tolerance)} is tolerated."
        )

    def _cost_of_skipping(self) -> str:
        return f"{self.name} skips {self._share(self.chosen)}: {self._cost_in_words()}"

    def _cost_in_words(self) -> str:
        loss, random = self.cost, self.random_cost
        text = f"the cost is {percent(loss.value)}{loss.percents}"
        if loss.value < 0:
            text = f"{self.view.label} is {percent(-loss.value)} higher{loss.reversed().percents}"
        computing = self.view.computing(self.chosen)
        if computing is not None:
            less = f"{percent(abs(1 - computing), 0)} {'less' if computing <= 1 else 'more'}"
            text += f", with {less} computing for learning"
        if random is None:
            return f"{text}."
        would = "cost" if random.value >= 0 else "add"
        return f"{text}; skipping at random would {would} {percent(abs(random.value))}."

    def _price(self, cost: Difference) -> str:
        if cost.value > 0:
            return f"at a cost of {percent(cost.value)} of {self.view.label}"
        if cost.lower:
            return f"and gain {percent(-cost.value)} of {self.view.label}"
        return f"at no cost in {self.view.label}"

    def _place(self, row: Row) -> str:
        return f"{row['trial_id']}: {self.view.label} {score(self.view.quality(row))}, {self._share(row)} skipped."

    def _share(self, row: Row) -> str:
        return percent(self.view.skipped(row), 0)
