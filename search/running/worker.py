"""A worker's side of the search, and what the end of an attempt at a trial means. Imported by workers: knows Ray Tune
and the measuring, nothing of the study, the records or MLflow.
"""

import os
import pickle
import re
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.tune
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as RayTrial

from etarec.config import AdaptConfig
from search import subject as trial

LEAVING = 0.5  # seconds in which a process that cannot use its GPU still tells of it
_IN_CREATION = "error raised in its creation task"  # what Ray calls an exception of a worker's first steps


class Kind(Enum):
    """What became of an attempt that has no result."""

    ERROR = "an exception: the same would come again"
    DIED = "its process or node is gone"
    CROWDED = "it lacked memory, or its GPU failed, which others beside it may have brought about"


class Fault(NamedTuple):
    """Why an attempt has no result. reason: one line; traceback: all that is known."""

    kind: Kind
    reason: str
    traceback: str


class OverMemoryError(RayActorError):
    """The node's memory was almost used up, and Ray's monitor ended the worker."""


class DeviceError(Exception):
    """The GPU that is reserved for this process cannot be used by it, or not any more; the message says why."""


class Slot(ray.tune.Trainable):
    """A worker. It reports that it is up until it is told to begin; then a step measures a trial.

    A trial that waits (`config["wait"]`) is held back in the same way, until another worker is up.
    """

    def setup(self, config: dict[str, Any], subject: trial.Subject | None = None, threads: int = 1) -> None:
        self.subject, self.threads, self.prepared, self.waiting = subject, threads, False, True

    def begin(self) -> None:
        self.waiting = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.waiting = new_config["wait"]
        return True

    def step(self) -> dict[str, Any]:
        assert self.subject is not None
        config, seed = AdaptConfig(**self.config["adapt"]), self.config["seed"]
        if not self.prepared:  # before the trial begins: what a worker computes once is no trial's time
            with _reserved_device():
                trial.prepare(self.subject, config, seed, self.threads)
            self.prepared = True
            return {"up": True}
        if self.waiting:
            time.sleep(0.05)
            return {"up": True}
        try:
            with _reserved_device():
                measured = trial.measure_on_validation(self.subject, config, seed, self.threads)
        except Exception as error:
            if crowded(error):
                raise  # what it holds is not all given back: the worker ends
            return {"error": _last_line(traceback.format_exc()), "traceback": traceback.format_exc(), "done": True}
        return {"metrics": measured.metrics(), "curve": measured.curve(), "done": True}


def fault(ended: RayTrial) -> Fault:
    """What ended an attempt, from the error that Ray kept. Its file holds the worker's traceback."""
    file = Path(ended.error_file) if ended.error_file else None
    text = file.read_text().strip() if file and file.exists() else "Ray gave no reason"
    error = _error(ended)
    if isinstance(error, OverMemoryError):
        return Fault(Kind.CROWDED, _OVER, text)
    if isinstance(error, RayActorError) and _IN_CREATION not in text:
        gone = "the worker's node died" if "its node" in str(error) else _DIED
        return Fault(Kind.DIED, gone, text)
    return Fault(Kind.CROWDED if crowded(error) else Kind.ERROR, _last_line(text), text)


def _last_line(traceback: str) -> str:
    return re.sub(r"^(\w+\.)+(?=\w+(:|$))", "", traceback.strip().splitlines()[-1])  # without the exception's modules


_DIED = "the worker process died (killed, or out of memory)"
_OVER = "the node ran out of memory (Ray's memory monitor ended the worker)"


def _error(ended: RayTrial) -> BaseException | None:
    if not ended.pickled_error_file:
        return None
    try:
        error: BaseException = pickle.loads(Path(ended.pickled_error_file).read_bytes())  # Ray's, of this process
    except Exception:  # a class that only the worker knows
        return None
    return error


def death(error: Exception) -> Exception:
    """The error of a call to a worker, so that Ray Tune takes every end of the worker for one."""
    if isinstance(error, (RayActorError, RayTaskError)) or not isinstance(error, RayError):
        return error
    kind = OverMemoryError if isinstance(error, OutOfMemoryError) else RayActorError
    return kind(error_msg=str(error))


def crowded(error: object) -> bool:
    """Whether a worker ended because what ran at once was too much for a device's or the machine's memory, or by a
    fault of the GPU: that of one process ends all that share it (CUDA MPS)."""
    return isinstance(cause(error), (torch.OutOfMemoryError, MemoryError, OutOfMemoryError, DeviceError))


def died(error: object) -> bool:
    """Whether a measurement ended because its process was killed or cannot use its GPU, or its node was lost."""
    lost = isinstance(error, RayError) and not isinstance(error, (RayTaskError, OutOfMemoryError))
    return lost or isinstance(cause(error), DeviceError)


def cause(error: object) -> object:
    """The exception itself where Ray wrapped it."""
    return error.cause if isinstance(error, RayTaskError) else error


def be_there() -> None:
    """Makes a process start and import all that a measurement needs."""
    import search.retest  # noqa: F401


def measure(measure: Any, subject: Any, config: AdaptConfig, seed: int, threads: int) -> Any:
    """The process is used again, unless it cannot use its GPU; the GPU's memory is given back."""
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
    """Raises DeviceError, before or instead of another exception, if this process cannot use its GPU."""
    fault = _device_fault()
    if fault:
        raise DeviceError(fault)
    try:
        yield
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # which hold tensors
        fault = _device_fault()
        if fault:
            raise DeviceError(fault) from error
        torch.cuda.empty_cache()
        raise


def _device_fault() -> str:
    """A device's error is its process's for good, and comes again with whatever it is asked; one that CUDA does not
    find would leave the work to the CPU."""
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        elif torch.version.cuda and ray.get_gpu_ids() and not torch.cuda.is_available():
            return "a GPU is reserved for this process, but CUDA finds none"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""
