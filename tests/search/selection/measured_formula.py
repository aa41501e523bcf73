"""The formula measured as a search measures a recommender, and a selection from its trials."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from formula import SAMPLES, Formula

from etarec.config import Reason, SplitName
from etarec.evaluate import Measurement
from search.records.states import State
from search.records.trial import Anchor, Trial
from search.records.trials_table import METRICS
from search.selection import anchors
from search.selection.front import Selection, remeasure, select
from search.spec import Spec, load, trial_config, trial_seed
from search.subject import Job, job_of

N_ITEMS = 1000
SPACE = {
    "top_k": {"choices": [2, 50, None]},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}
QUALITIES = [f"{name}_at_{k}" for k in (10, 50) for name in ("hr", "ndcg")]
SEEN = {"valid": 0.2, "test": 0.05}
HALF = dict.fromkeys(METRICS, 0.5) | {"filtered_by_seen": 0.0}


@dataclass
class Measured:
    """Measures the formula on a split and remembers the jobs. `seen` is filtered before any gate is asked.

    nan: these gates have no finite measurement.
    """

    split: SplitName
    seen: float = 0.0
    nan: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, jobs: Sequence[Job]) -> Iterable[Measurement | None]:
        self.jobs += jobs
        return [None if job.config.gate in self.nan else self.measure(job) for job in jobs]

    def measure(self, job: Job) -> Measurement:
        asked = Formula().measure(job.config, self.split, job.seed)
        if job.config.gate == "open" or job.config.target == "none":
            return asked
        by_seen = round(SAMPLES * self.seen)
        by_gate = round((SAMPLES - by_seen) * (1 - float(asked.admitted.mean())))
        reason = Reason.CHANCE if job.config.gate == "random" else Reason.ENTROPY
        counts = [by_seen, by_gate, SAMPLES - by_seen - by_gate]
        return replace(asked, reasons=np.repeat([Reason.NOTHING_TO_LEARN, reason, Reason.ADMITTED], counts))


def spec_of(folder: Path, **document: Any) -> Spec:
    file = folder / "space.yaml"
    search = {"bootstrap_replicates": 50, **document.pop("search", {})}
    file.write_text(yaml.safe_dump({"space": SPACE, "search": search, **document}))
    return load(file)


def finished(spec: Spec, measured: Measured, count: int = 12) -> list[Trial]:
    rng = np.random.default_rng(4)
    trials = []
    for number in range(count):
        parameters = {
            "top_k": [2, 50, None][number % 3],
            "entropy_quantile": float(rng.uniform(0.05, 1.0)),
            "cosine_threshold": float(rng.uniform(0.01, 1.0)),
        }
        config = trial_config(spec, parameters)
        metrics = measured.measure(Job(config, trial_seed(spec.search.seed, config))).metrics()
        trials.append(Trial(number, parameters, State.FINISHED, metrics))
    return trials


def at(quality: float, filter_rate: float) -> dict[str, float]:
    """Metrics of a trial: HR@10 and the filter rate, all others 0.5."""
    return HALF | {"hr_at_10": quality, "filter_rate": filter_rate}


def trials_with(*metrics: dict[str, float]) -> list[Trial]:
    """Finished trials of one configuration with these metrics."""
    parameters = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    return [Trial(number, parameters, State.FINISHED, each) for number, each in enumerate(metrics)]


def anchors_of(spec: Spec, measured: Measured, **changed: dict[str, float]) -> list[Anchor]:
    """The anchors as the formula measures them, some with other metrics."""
    found = []
    for name, config in anchors.configs(spec, N_ITEMS).items():
        one = anchors.anchor(name, config, measured.measure(job_of(spec, config)))
        found.append(replace(one, metrics={**one.metrics, **changed.get(name, {})}))
    return found


def selected(spec: Spec, seen: dict[str, float] | None = None) -> tuple[Selection, Measured, Measured]:
    """A selection measured on test, and who measured."""
    shares = seen or {"valid": 0.0, "test": 0.0}
    on_valid, on_test = Measured("valid", shares["valid"]), Measured("test", shares["test"])
    trials = finished(spec, on_valid)
    return remeasure(spec, select(spec, trials, N_ITEMS, on_valid), on_test), on_valid, on_test
