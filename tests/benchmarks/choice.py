"""The choice of a finished search, made from half of the users and judged on the other half.

    python -m tests.benchmarks.choice DIR [--splits N]

A choice among noisy measurements takes a lucky one, so its quality on the half that chose says too much. The journal
holds each trial's ranks along the stream, so any half can choose by both kinds of front (`search.front`). Nothing is
measured, and test has no part in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etarec.metrics import QUALITY_METRICS, per_sample
from search.baselines import ALL
from search.records.records import Records
from search.records.states import State
from search.selection.front import front_of
from search.selection.paired import Outcomes, users_of
from search.selection.point import chosen_and_grouped, points_of
from search.spec import Spec, load
from search.spec.constraint import all_met
from tests.benchmarks.finished import named
from tests.benchmarks.frame import Table, markdown

Kind = Literal["measured", "modelled"]
Mask = NDArray[np.bool_]  # [S], the samples of half of the users


class Judged(NamedTuple):
    """A choice: its filter rate, and its quality relative to adapting on everything, as believed by the half that chose
    and as measured on the other.

    kept: whether it keeps the spec's constraints elsewhere.
    """

    filter_rate: float
    chosen: dict[str, float]
    held: dict[str, float]
    kept: bool


def main() -> None:
    directory, splits = named("choice", __doc__, "--splits", 40, "random halves of the users")
    spec, records = load(directory / "spec.yaml"), Records(directory)
    names = [name for name in QUALITY_METRICS if name in (*spec.search.objectives, *spec.search.constraints)]
    rows = []
    for kind in ("measured", "modelled"):
        found = list(judged(spec, records, kind, splits))
        means = [np.mean([getattr(one, side)[name] for one in found]) for name in names for side in ("chosen", "held")]
        shares = [np.mean([one.filter_rate for one in found]), *means]
        rows.append([kind, *(f"{share:.1%}" for share in shares), f"{np.mean([one.kept for one in found]):.0%}"])
    sides = [f"{name}, {side}" for name in names for side in ("half that chose", "other half")]
    print(markdown(Table("Choices", str(directory), ["front", "skipped", *sides, "constraints kept"], rows)))


def judged(spec: Spec, records: Records, kind: Kind, splits: int) -> Iterator[Judged]:
    """The choice from one half of the users after another; a half without a front is left out."""
    spec, users = replace(spec, search=replace(spec.search, front=kind)), users_of(records.users)
    for seed in range(splits):
        ours = np.random.default_rng(seed).permutation(users.max() + 1)[users] % 2 == 0
        here, elsewhere = (_half(records, half) for half in (ours, ~ours))
        trials = [replace(trial, metrics=here[trial.trial_id]) for trial in records.in_state(State.FINISHED)]
        anchors = [replace(one, metrics=here[one.name]) for one in records.anchors.values() if one.metrics]
        front, _ = front_of(spec, trials, anchors)
        choice, _ = chosen_and_grouped(spec, front, points_of(anchors), "")
        if choice is not None:
            point = front[choice.index]
            held = elsewhere[point.name]
            kept = all_met(spec.search.constraints, held, elsewhere)
            relative = _relative(point.judged, here[ALL]), _relative(held, elsewhere[ALL])
            yield Judged(held["filter_rate"], *relative, kept)


def _half(records: Records, samples: Mask) -> dict[str, dict[str, float]]:
    """The metrics of trials and anchors on a part of the stream; those that a part does not change are taken whole."""
    measured: dict[str, Any] = {trial.trial_id: trial for trial in records.in_state(State.FINISHED)}
    measured |= {name: anchor for name, anchor in records.anchors.items() if anchor.metrics}
    return {name: one.metrics | _quality(Outcomes.read(one.outcomes), samples) for name, one in measured.items()}


def _quality(outcomes: Outcomes, samples: Mask) -> dict[str, float]:
    return {name: float(per_sample(outcomes.ranks[samples], name).mean()) for name in QUALITY_METRICS}


def _relative(metrics: Mapping[str, float], everything: Mapping[str, float]) -> dict[str, float]:
    return {metric: metrics[metric] / everything[metric] - 1 for metric in QUALITY_METRICS if metric in metrics}


if __name__ == "__main__":
    main()
