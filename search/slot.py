"""A worker's side of the search, and what the end of an attempt at a trial means. Imported by workers: knows Ray Tune
and the measuring, nothing of the study, the records or MLflow.
"""

import os
import pickle
import re
import time
import traceback
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import ray.tune
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as RayTrial

from etarec.config import AdaptConfig
from search import trial

_IN_CREATION = "error raised in its creation task"  # what Ray calls an exception of a worker's first steps


class Kind(Enum):
    """What became of an attempt that has no result."""

    ERROR = "an exception: the same would come again"
    DIED = "its process or node is gone"
    MEMORY = "it ran out of memory beside others"


class Fault(NamedTuple):
    """Why an attempt has no result. reason: one line; traceback: all that is known."""

    kind: Kind
    reason: str
    traceback: str


class OverMemoryError(RayActorError):
    """The node's memory was almost used up, and Ray's monitor ended the worker."""


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
            trial.prepare(self.subject, config, seed, self.threads)
            self.prepared = True
            return {"up": True}
        if self.waiting:
            time.sleep(0.05)
            return {"up": True}
        try:
            measured = trial.measure_on_validation(self.subject, config, seed, self.threads)
        except Exception as error:
            if torch.cuda.is_initialized():
                _leave_the_device(error)
            if out_of_memory(error):
                raise  # what it holds is not all given back: the worker ends
            return {"error": _last_line(traceback.format_exc()), "traceback": traceback.format_exc(), "done": True}
        return {"metrics": measured.metrics(), "curve": measured.curve(), "done": True}


def fault(ended: RayTrial) -> Fault:
    """What ended an attempt, from the error that Ray kept. Its file holds the worker's traceback."""
    file = Path(ended.error_file) if ended.error_file else None
    text = file.read_text().strip() if file and file.exists() else "Ray gave no reason"
    error = _error(ended)
    if isinstance(error, OverMemoryError):
        return Fault(Kind.MEMORY, _OVER, text)
    if isinstance(error, RayActorError) and _IN_CREATION not in text:
        gone = "the worker's node died" if "its node" in str(error) else _DIED
        return Fault(Kind.DIED, gone, text)
    return Fault(Kind.MEMORY if out_of_memory(error) else Kind.ERROR, _last_line(text), text)


def _last_line(traceback: str) -> str:
    return re.sub(r"^(\w+\.)+(?=\w+(:|$))", "", traceback.strip().splitlines()[-1])  # without the exception's modules


_DIED = "the worker process died (killed, out of memory, or its GPU failed)"
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


def out_of_memory(error: object) -> bool:
    """Whether a worker ended because what ran at once was too much for a device's or the machine's memory."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, (torch.OutOfMemoryError, MemoryError, OutOfMemoryError))


def died(error: object) -> bool:
    """Whether a measurement ended because its process was killed or its node was lost, for whatever reason."""
    return isinstance(error, RayError) and not isinstance(error, (RayTaskError, OutOfMemoryError))


def be_there() -> None:
    """Makes a process start and import all that a measurement needs."""
    import search.retest  # noqa: F401


def measure(measure: Any, subject: Any, config: AdaptConfig, seed: int, threads: int) -> Any:
    """The process is used again, unless it would fail again or keep memory from those beside it."""
    try:
        return measure(subject, config, seed, threads)
    except Exception as error:
        if torch.cuda.is_initialized():
            _leave_the_device(error)
        raise


def _leave_the_device(error: Exception) -> None:
    """Gives memory back. A device's error is its process's for good: it ends, and the measurement is tried again."""
    traceback.clear_frames(error.__traceback__)
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        traceback.print_exception(error)
        os._exit(1)
