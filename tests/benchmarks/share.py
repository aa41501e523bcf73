"""(c) Seconds of a trial against its admitted share: a skipped backward pass must save measured time."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import SECONDS
from tests.benchmarks import material, timing
from tests.benchmarks.frame import Cell, Settings, Table

USERS, REPEATS = 4000, 5
RATES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
TARGETS = {
    "weights": AdaptConfig(new_transitions_only=False),
    "state": AdaptConfig(target="state", weighting="none"),
}


def share(settings: Settings) -> Table:
    data = material.part_of(material.interactions(settings), 60 if settings.quick else USERS)
    subject = material.Subject(data, material.checkpoint(settings))
    repeats = 1 if settings.quick else REPEATS
    rows = [row for name, config in TARGETS.items() for row in _target_rows(name, config, subject, repeats)]
    rows += _target_rows("state, in a search", TARGETS["state"], subject, repeats, look_up=True)
    return Table(
        "(c) Seconds of a trial against its admitted share",
        f"All trials serve one validation stream of {len(subject.stream):,} samples ({data.n_users:,} users chosen at "
        f"random, all {data.n_items - 1:,} items) in batches of 256 from one checkpoint. `random` filters the given "
        f"share by chance and computes no entropies; `eta` is the published gate. Target `state` serves every sample "
        f"by the pass without the inner loop first, and the admitted ones once more. In a search both passes are the "
        f"same for all trials and are looked up; the rows before show what serving costs. Wall seconds are by part, as "
        f"a trial reports them; the last column is a trial's CPU seconds over those of admitting everything. "
        f"Medians of {repeats} rounds in which the trials take turns.",
        ["", "admitted", "forward s", "gate s", "adapt s", "total s", "CPU s", "of admitting all"],
        rows,
    )


def _target_rows(
    target: str, base: AdaptConfig, subject: material.Subject, repeats: int, look_up: bool = False
) -> list[list[Cell]]:
    configs = {f"random, filter {rate:.0%}": replace(base, gate="random", random_rate=rate) for rate in RATES}
    configs |= {
        f"eta, quantile {quantile}, epsilon {epsilon}": replace(
            base, entropy_quantile=quantile, cosine_threshold=epsilon
        )
        for quantile, epsilon in ((0.75, 0.5), (0.25, 0.3))
    }
    measured: dict[str, list[Measurement]] = {name: [] for name in configs}

    def work(name: str) -> Callable[[], None]:
        return lambda: measured[name].append(subject.trial(configs[name], look_up))

    subject.trial(base, look_up)
    runs = timing.interleaved([work(name) for name in configs], repeats)
    rows: list[list[Cell]] = []
    for (name, outcomes), own in zip(measured.items(), runs, strict=True):
        total, *parts = (median(outcome.seconds[part] for outcome in outcomes) for part in SECONDS)
        admitted = float(outcomes[0].admitted.mean())
        relative = str(timing.ratio(own, runs[0]))
        rows.append([f"{target}: {name}", admitted, *parts, total, timing.cpu(own), relative])
    return rows
