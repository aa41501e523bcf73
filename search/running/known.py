"""The results of a search as its own sampler sees them, and how much more it expects to find."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etarec.metrics import COST
from search.baselines import ALL, NONE
from search.records.records import Records
from search.records.states import State
from search.running.learning import FEWEST
from search.sampler.objectives_model import Origin
from search.sampler.proposal import Known, gain_share, propose
from search.spec import SearchConfig, Spec, objectives_of
from search.spec.constraint import parsed
from search.surrogate.cube import Cube

MOST_MODELLED = 200  # results that `auto` models by a Gaussian process, whose cost grows with their cube
Results = Sequence[tuple[Mapping[str, Any], Sequence[float]]]
Anchors = Mapping[str, Mapping[str, float]]


def known(search: SearchConfig, anchors: Anchors, results: Results, awaited: Sequence[Mapping[str, Any]]) -> Known:
    """The sampler's view of a search.

    Args:
        search: names the objectives and the constraints.
        anchors: metrics of the anchors by name, empty for a failed one.
        results: configurations and their objectives.
        awaited: configurations without a result.
    """
    values = [objectives_of(search, metrics) for metrics in anchors.values() if metrics]
    points = np.array(values, dtype=np.float64).reshape(-1, len(search.objectives))
    corner, most = reference(search, anchors, results), [0.0 if name == COST else 1.0 for name in search.objectives]
    return Known(results, awaited, points, corner, _origin(search, anchors), np.array(most))


def _origin(search: SearchConfig, anchors: Anchors) -> Origin | None:
    """Adapting on everything; None if it was not measured, or if the filter rate is no objective."""
    everything = anchors.get(ALL)
    if not everything or "filter_rate" not in search.objectives:
        return None
    return Origin(np.array(objectives_of(search, everything)), search.objectives.index("filter_rate"))


def reference(search: SearchConfig, anchors: Anchors, results: Results = ()) -> NDArray[np.float64]:
    """The corner of what is worth having: no skipping, the quality of no adaptation, the cost of adapting on all.

    The worst measured value stands for an anchor's that is missing. A constraint on an objective raises the corner.
    """
    none, everything = ({**(anchors.get(name) or {})} for name in (NONE, ALL))
    corner = {}
    for place, name in enumerate(search.objectives):
        worst = min((values[place] for _, values in results), default=-math.inf)
        cost = -everything[COST] if COST in everything else worst
        corner[name] = {"filter_rate": 0.0, COST: cost}.get(name, none.get(name, worst))
    for constraint in parsed(search.constraints):
        bound, is_cost = constraint.bound(anchors), constraint.metric == COST
        if constraint.metric in corner and bound is not None and constraint.at_least is not is_cost:
            corner[constraint.metric] = max(corner[constraint.metric], -bound if is_cost else bound)
    return np.array([corner[name] for name in search.objectives])


def expected_gain(spec: Spec, records: Records) -> float | None:
    """The largest expected gain of one more trial, as a share of the area reached.

    None where there are too few results, or too many, for the model.
    """
    finished = records.in_state(State.FINISHED)
    if not FEWEST["auto"] <= len(finished) <= MOST_MODELLED:
        return None
    results = [(trial.parameters, objectives_of(spec.search, trial.metrics)) for trial in finished]
    others = [trial.parameters for trial in records.in_state(State.PRUNED, State.FAILED)]
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    cube, all_known = Cube(spec.space, spec.adapt), known(spec.search, anchors, results, others)
    best = propose(cube, all_known, spec.search.seed)
    return 0.0 if best is None else gain_share(cube, all_known, best)
