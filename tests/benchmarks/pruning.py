"""The early end of trials, replayed on a finished search that measured every trial to its end.

    python -m tests.benchmarks.pruning DIR

`search.prune.z=null` makes such a search. The journal holds each trial's ranks and decisions along the stream, so every
rule can be replayed on it: what it saves, and what of the front it loses. A trial that ends early is no rival of later
ones. The search's suggestions stay as they were.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etarec.evaluate import SEGMENTS
from search.baselines import ALL, NONE
from search.records.records import Records
from search.records.states import State
from search.records.trial import Trial
from search.running.rivals import Rivals
from search.selection.area import ends
from search.selection.paired import Outcomes, users_of
from search.selection.pareto import hypervolume, non_dominated
from search.selection.pruning import BeatenError, Pruner
from search.spec import Spec, load, objectives_of
from tests.benchmarks.finished import named
from tests.benchmarks.frame import Table, markdown

RULES = ((3.0, 0.1), (2.0, 0.25), (4.0, 0.1))


class Replayed(NamedTuple):
    """The effect of one rule: trials that it ends, and the shares of samples and seconds that it saves.

    kept: share of the trials' area above no adaptation that remains. lost: points of the front that it ends.
    """

    ended: int
    samples: float
    seconds: float
    kept: float
    lost: int


def main() -> None:
    directory, concurrency = named("pruning", __doc__, "--concurrency", 2, "trials at once of that search")
    spec = load(directory / "spec.yaml")
    rows = []
    for z, begin in RULES:
        found = replayed(spec, Records(directory), z, begin, concurrency)
        shares = [f"{found.samples:.0%}", f"{found.seconds:.0%}", f"{found.kept:.2%}"]
        print(found, flush=True)
        rows.append([f"{z:g}", f"{begin:.0%}", str(found.ended), *shares, str(found.lost)])
    columns = ["z", "from", "trials ended", "samples saved", "seconds saved", "area kept", "front points lost"]
    print(markdown(Table("Trials that cannot win", str(directory), columns, rows)))


def replayed(spec: Spec, records: Records, z: float, begin: float, concurrency: int) -> Replayed:
    """One rule on all finished trials of a search; its records are changed."""
    rivals, users = Rivals(spec, records, concurrency), users_of(records.users)
    finished = records.in_state(State.FINISHED)
    whole = [objectives_of(spec.search, trial.metrics) for trial in finished]
    served = {}
    for trial in finished:
        known = {name: Outcomes.read(text) for name, text in rivals.of(trial.number).items()}
        served[trial.number] = _served(trial, Pruner(known, spec.search.qualities, z, begin), users)
        if served[trial.number] < 1:
            records.trials[trial.number] = replace(trial, state=State.PRUNED)
    left = [objectives_of(spec.search, trial.metrics) for trial in records.in_state(State.FINISHED)]
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    corner, _ = ends(spec.search.objectives, anchors[NONE], anchors[ALL])
    fixed = [objectives_of(spec.search, metrics) for metrics in anchors.values()]
    saved = [1 - served[trial.number] for trial in finished]
    costs = [trial.metrics["seconds"] for trial in finished]
    area = hypervolume(whole, corner)
    front = np.array(whole)[non_dominated([*whole, *fixed])[: len(whole)]].tolist()
    return Replayed(
        len(whole) - len(left),
        float(np.mean(saved)),
        float(np.dot(saved, costs) / np.sum(costs)),
        hypervolume(left, corner) / area,
        sum(tuple(value) not in left for value in front),
    )


def _served(trial: Trial, pruner: Pruner, users: NDArray[np.integer]) -> float:
    """The share of the stream after which the rule ends a trial; 1 where it does not."""
    mine = Outcomes.read(trial.outcomes)
    samples = len(mine.ranks)
    for part in range(1, SEGMENTS):
        served = part * samples // SEGMENTS
        try:
            pruner(users[:served], mine.ranks[:served], mine.admitted[:served], samples)
        except BeatenError:
            return served / samples
    return 1.0


if __name__ == "__main__":
    main()
