"""The configurations against which a trial must have a chance: the anchors and the front of the results before it."""

from typing import Any

import numpy as np
import ray

from search.records.records import Records
from search.records.states import State
from search.records.trial import Anchor, Trial
from search.running.learning import lag
from search.selection.pareto import non_dominated
from search.spec import Spec, objectives_of
from search.spec.constraint import all_met, beside


class Rivals:
    """Chooses the rivals of each trial from the results on which its suggestion could rest."""

    def __init__(self, spec: Spec, records: Records, concurrency: int):
        self.spec, self.records, self._lag = spec, records, lag(concurrency)
        self._prunes = spec.search.followed and spec.search.prune.z is not None
        self._kept: tuple[tuple[str, ...], Any] = ((), None)  # the last rivals' names, and Ray's reference to them

    def reference(self, number: int) -> Any:
        """Ray's reference to the outcomes of the rivals of trial `number` by their names; None if it has none."""
        found = self.of(number) if self._prunes else {}
        if not found:
            return None
        if self._kept[0] != tuple(found):
            self._kept = tuple(found), ray.put(found)
        return self._kept[1]

    def of(self, number: int) -> dict[str, str]:
        """The outcomes of the configurations that no other one beats, by name.

        A configuration that breaks a bound may lie behind a trial that keeps it, so it is no rival.
        """
        before = [trial for trial in self.records.in_state(State.FINISHED) if trial.number <= number - self._lag]
        everyone: list[Anchor | Trial] = [*self.records.anchors.values(), *before]
        anchors = {name: anchor.metrics for name, anchor in self.records.anchors.items()}
        bounds = beside(self.spec.search.constraints, self.spec.search.objectives)
        known = [one for one in everyone if one.outcomes and one.metrics and all_met(bounds, one.metrics, anchors)]
        values = [objectives_of(self.spec.search, one.metrics) for one in known]
        kept = non_dominated(np.array(values, dtype=np.float64).reshape(-1, len(self.spec.search.objectives)))
        return {_name(one): one.outcomes for one, best in zip(known, kept, strict=True) if best}


def _name(one: Anchor | Trial) -> str:
    return one.trial_id if isinstance(one, Trial) else one.name
