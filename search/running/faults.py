"""The faults that end a trial or a measurement without a result, and whether it may be tried again."""

import pickle
import re
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as RayTrial

from search.running.ray_internals import IN_CREATION, ITS_NODE

DIED = "the worker process died (killed, or out of memory)"
NODE_DIED = "the worker's node died"
OUT_OF_MEMORY = "the node ran out of memory (Ray's memory monitor ended the worker)"


class Kind(Enum):
    """Kind of a fault; it decides whether and how an attempt is repeated."""

    ERROR = "an exception, which would come again"
    DIED = "the process or its node is gone"
    CROWDED = "memory was short or the GPU failed, which trials running beside it may have caused"


class Fault(NamedTuple):
    """The cause of an attempt without a result. reason: one line; traceback: everything that is known."""

    kind: Kind
    reason: str
    traceback: str


class OverMemoryError(RayActorError):
    """Ray's memory monitor ended the worker because the node's memory was almost used up."""


class DeviceError(Exception):
    """The process cannot use the GPU that is reserved for it; the message says why."""


def fault_of(ended: RayTrial) -> Fault:
    """The fault that ended an attempt, read from the error files that Ray Tune wrote for it."""
    file = Path(ended.error_file) if ended.error_file else None
    text = file.read_text().strip() if file and file.exists() else "Ray gave no reason"
    error = _error(ended)
    if isinstance(error, OverMemoryError):
        return Fault(Kind.CROWDED, OUT_OF_MEMORY, text)
    if isinstance(error, RayActorError) and IN_CREATION not in text:
        return Fault(Kind.DIED, NODE_DIED if ITS_NODE in str(error) else DIED, text)
    return Fault(Kind.CROWDED if crowded(error) else Kind.ERROR, last_line(text), text)


def _error(ended: RayTrial) -> BaseException | None:
    if not ended.pickled_error_file:
        return None
    try:
        error: BaseException = pickle.loads(Path(ended.pickled_error_file).read_bytes())  # noqa: S301 - written by this process
    except Exception:  # its class may exist on the worker alone
        return None
    return error


def last_line(text: str) -> str:
    """The last line of a traceback or an error, without the modules of the exception's class."""
    return re.sub(r"^(\w+\.)+(?=\w+(:|$))", "", text.strip().splitlines()[-1])


def as_actor_error(error: Exception) -> Exception:
    """The error of a call to a worker, as one of the two classes that Ray Tune expects: a task's or a dead actor's."""
    if isinstance(error, (RayActorError, RayTaskError)) or not isinstance(error, RayError):
        return error
    kind = OverMemoryError if isinstance(error, OutOfMemoryError) else RayActorError
    return kind(error_msg=str(error))


def crowded(error: object) -> bool:
    """Whether processes running beside this one may have caused the error.

    They share the memory of the machine and of the GPU, and under CUDA MPS one process's GPU fault ends all of them.
    """
    return isinstance(cause(error), (torch.OutOfMemoryError, MemoryError, OutOfMemoryError, DeviceError))


def died(error: object) -> bool:
    """Whether a measurement lost its process, its node or its GPU."""
    lost = isinstance(error, RayError) and not isinstance(error, (RayTaskError, OutOfMemoryError))
    return lost or isinstance(cause(error), DeviceError)


def cause(error: object) -> object:
    """The exception that a task raised, without Ray's wrapping."""
    return error.cause if isinstance(error, RayTaskError) else error
