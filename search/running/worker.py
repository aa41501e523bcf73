"""Code that runs in a worker process: it measures, and knows nothing of the study, the records or MLflow."""

import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.tune
import torch

from etarec.config import AdaptConfig
from etarec.metrics import QUALITY_METRICS, QualityMetric
from search.running.faults import DeviceError, crowded, last_line
from search.selection.paired import Outcomes
from search.selection.pruning import BeatenError, Pruner
from search.spec import PruneConfig
from search.subject import Serving, Subject, measure_on_validation, prepare

LEAVING = 0.5  # seconds for which a process that cannot use its GPU stays, so that its error reaches the driver


class TrialWorker(ray.tune.Trainable):
    """A process that measures one trial after another, each in one step.

    The first step prepares what all trials share and reports `up`. A held worker measures nothing and reports `up` in
    every step.
    """

    def setup(
        self,
        config: dict[str, Any],
        subject: Subject | None = None,
        threads: int = 1,
        qualities: Sequence[QualityMetric] = QUALITY_METRICS[:1],
        prune: PruneConfig | None = None,
        serving: Serving | None = None,
    ) -> None:
        self.subject, self.threads, self.qualities, self.serving = subject, threads, qualities, serving
        self.prune = prune or PruneConfig(z=None)
        self.prepared = self.held = False

    def hold(self) -> None:
        """Measures nothing until `begin`."""
        self.held = True

    def begin(self) -> None:
        self.held = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        assert self.subject is not None
        config, seed = AdaptConfig(**self.config["adapt"]), self.config["seed"]
        if not self.prepared:  # a step of its own: preparing is not part of the trial's time
            with _reserved_device():
                prepare(self.subject, config, seed, self.threads)
            self.prepared = True
            return {"up": True}
        if self.held:
            time.sleep(0.05)
            return {"up": True}
        try:
            with _reserved_device():
                watch = self._pruner()
                measured = measure_on_validation(self.subject, config, seed, self.threads, watch, self.serving)
        except BeatenError as beaten:
            return {"pruned": str(beaten), "done": True}
        except Exception as error:
            if crowded(error):
                raise  # ends the process, which frees its memory
            return {"error": last_line(traceback.format_exc()), "traceback": traceback.format_exc(), "done": True}
        outcomes = Outcomes.of(measured.ranks, measured.admitted).text()
        curve = measured.curve(self.qualities[0])
        return {"metrics": measured.metrics(), "curve": curve, "outcomes": outcomes, "done": True}

    def _pruner(self) -> Pruner | None:
        """The rule that may end the trial early; None without rivals."""
        if (reference := self.config.get("rivals")) is None or self.prune.z is None:
            return None
        rivals = {name: Outcomes.read(text) for name, text in ray.get(reference).items()}
        return Pruner(rivals, self.qualities, self.prune.z, self.prune.begin)


def import_modules() -> None:
    """Starts a process that has imported everything a measurement needs."""
    import search.retest  # noqa: F401


def measure(measure: Any, subject: Any, config: AdaptConfig, seed: int, threads: int) -> Any:
    """One measurement after the search. A process that cannot use its GPU ends; any other one takes the next job."""
    try:
        with _reserved_device():
            measured = measure(subject, config, seed, threads)
            torch.cuda.empty_cache()
    except DeviceError:
        threading.Timer(LEAVING, os._exit, [1]).start()
        raise
    return measured


@contextmanager
def _reserved_device() -> Iterator[None]:
    """Raises DeviceError if this process cannot use its GPU, at the start or in place of an exception of the block."""
    fault = _device_fault()
    if fault:
        raise DeviceError(fault)
    try:
        yield
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold tensors
        fault = _device_fault()
        if fault:
            raise DeviceError(fault) from error
        torch.cuda.empty_cache()
        raise


def _device_fault() -> str:
    """The reason why this process cannot use its GPU; empty if it can.

    A CUDA error stays with its process and is raised by every later call. Where CUDA finds no GPU at all, torch would
    silently compute on the CPU.
    """
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        elif torch.version.cuda and ray.get_gpu_ids() and not torch.cuda.is_available():
            return "a GPU is reserved for this process, but CUDA finds none"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""
