"""A worker that sleeps instead of measuring and needs no torch, so that several times as many fit into memory.

It answers Tune as `TrialWorker` does, so the driver's work is that of a search.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray.tune


@dataclass(frozen=True)
class Asleep:
    """A trial that sleeps half to one and a half times `seconds`, by its seed, and reports `result`."""

    seconds: float
    result: dict[str, Any]


class LightWorker(ray.tune.Trainable):
    """Sleeps for one trial after another; the first step and those of a held worker report `up`."""

    def setup(self, config: dict[str, Any], subject: Asleep | None = None, **of_measurements: Any) -> None:
        self.subject, self.prepared, self.held = subject, False, False

    def hold(self) -> None:
        self.held = True

    def begin(self) -> None:
        self.held = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        assert self.subject is not None
        if self.held or not self.prepared:
            time.sleep(0.05 if self.held else 0)
            self.prepared = True
            return {"up": True}
        time.sleep(self.subject.seconds * (0.5 + self.config["seed"] % 1000 / 1000))
        quality = 0.3 + 0.1 * self.config["adapt"]["entropy_quantile"]
        filtered = 1 - self.config["adapt"]["entropy_quantile"]
        metrics = self.subject.result["metrics"] | {"hr_at_10": quality, "filter_rate": filtered}
        return {**self.subject.result, "metrics": metrics, "done": True}
