"""The rule that ends a trial early: a known configuration is clearly better in all objectives on the samples so far.

Rivals are the anchors and the front of the trials whose results the trial's suggestion could rest on, so a trial ends
at the same sample whatever runs beside it, and after an interruption too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etarec.metrics import QualityMetric
from search.selection.paired import Outcomes, z_scores


class BeatenError(Exception):
    """A trial cannot win; the message says against which configuration, and after which share of the stream."""


@dataclass(frozen=True)
class Pruner:
    """Watches a trial; raises BeatenError once a rival is better by `z` paired standard errors in all objectives.

    rivals: what known configurations did with the whole stream, by name. qualities: the objectives beside the filter
    rate. begin: the share of the stream before which no trial ends.
    """

    rivals: Mapping[str, Outcomes]
    qualities: Sequence[QualityMetric]
    z: float
    begin: float

    def __call__(
        self, users: NDArray[np.integer], ranks: NDArray[np.integer], admitted: NDArray[np.bool_], samples: int
    ) -> None:
        """Judge a trial that has served the first of the stream's `samples`, with these users, ranks and decisions."""
        served = len(ranks)
        if served < self.begin * samples:
            return
        mine = Outcomes.of(ranks, admitted)
        admitted_so_far = int(admitted.sum())
        for name, rival in self.rivals.items():
            if len(rival.ranks) != samples or int(rival.admitted[:served].sum()) >= admitted_so_far:
                continue  # it skips no more so far, which is cheaper to see than a standard error
            if min(z_scores(rival.first(served), mine, users, self.qualities)) > self.z:
                share = served / samples
                raise BeatenError(f"{name} is better in {self._objectives} after {share:.0%} of the stream")

    @property
    def _objectives(self) -> str:
        return "both objectives" if len(self.qualities) == 1 else "all objectives"
