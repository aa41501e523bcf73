"""The meaning of the end of an attempt."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from ray.tune.experiment import Trial as RayTrial

from search.running.faults import (
    DIED,
    NODE_DIED,
    OUT_OF_MEMORY,
    DeviceError,
    Kind,
    OverMemoryError,
    as_actor_error,
    crowded,
    died,
    fault_of,
    last_line,
)


def of_task(error: Exception) -> RayTaskError:
    return RayTaskError("measure", "Traceback\nraised there", error)


def ended(folder: Path, error: object, text: str) -> Any:
    """A trial of Ray's with its two error files."""
    (folder / "error.txt").write_text(text)
    (folder / "error.pkl").write_bytes(pickle.dumps(error))
    return SimpleNamespace(error_file=folder / "error.txt", pickled_error_file=folder / "error.pkl")


@pytest.mark.parametrize(
    ("error", "text", "kind", "reason"),
    [
        (RayActorError(error_msg="it died"), "Traceback", Kind.DIED, DIED),
        (RayActorError(error_msg="The actor died because its node has died."), "Traceback", Kind.DIED, NODE_DIED),
        (
            RayActorError(error_msg="error raised in its creation task"),
            "error raised in its creation task\nsearch.x.ValueError: bad",
            Kind.ERROR,
            "ValueError: bad",
        ),
        (OverMemoryError(error_msg="killed"), "Traceback", Kind.CROWDED, OUT_OF_MEMORY),
        (
            of_task(torch.OutOfMemoryError("full")),
            "torch.OutOfMemoryError: full",
            Kind.CROWDED,
            "OutOfMemoryError: full",
        ),
        (
            of_task(DeviceError("broken")),
            "search.running.faults.DeviceError: broken",
            Kind.CROWDED,
            "DeviceError: broken",
        ),
        (of_task(ValueError("bad")), "Traceback\nValueError: bad", Kind.ERROR, "ValueError: bad"),
    ],
)
def test_the_kind_and_reason_of_a_fault(tmp_path: Path, error: object, text: str, kind: Kind, reason: str) -> None:
    fault = fault_of(ended(tmp_path, error, text))
    assert (fault.kind, fault.reason, fault.traceback) == (kind, reason, text)


def test_a_trial_without_error_files_has_a_reason() -> None:
    fault = fault_of(SimpleNamespace(error_file=None, pickled_error_file=None))  # type: ignore[arg-type]
    assert (fault.kind, fault.reason) == (Kind.ERROR, "Ray gave no reason")


def test_an_error_of_an_unknown_class_is_read_from_its_text(tmp_path: Path) -> None:
    trial = ended(tmp_path, None, "Traceback\nplugin.errors.Strange: bad")
    trial.pickled_error_file.write_bytes(b"cplugin.errors\nStrange\n.")
    assert fault_of(trial).reason == "Strange: bad"


@pytest.mark.parametrize(
    ("error", "is_crowded", "is_death"),
    [
        (OutOfMemoryError("full"), True, False),
        (WorkerCrashedError(), False, True),
        (RayActorError(error_msg="it died"), False, True),
        (of_task(MemoryError()), True, False),
        (of_task(DeviceError("broken")), True, True),
        (of_task(ValueError("bad")), False, False),
        ("a measurement", False, False),
    ],
)
def test_which_ends_may_be_repeated(error: object, is_crowded: bool, is_death: bool) -> None:
    assert (crowded(error), died(error)) == (is_crowded, is_death)


def test_other_errors_stay_what_they_are_for_tune() -> None:
    for error in (ValueError("bad"), of_task(ValueError("bad")), RayActorError(error_msg="it died")):
        assert as_actor_error(error) is error


def test_the_last_line_names_the_class_alone() -> None:
    assert last_line("Traceback\n  a.b.c\nsome.module.Error: in a.b: c\n") == "Error: in a.b: c"
    assert last_line("some.module.Error") == "Error"


@pytest.mark.parametrize("name", ["error_file", "pickled_error_file"])
def test_a_trial_of_this_ray_names_its_error_files(name: str) -> None:
    there = isinstance(getattr(RayTrial, name, None), property)
    assert there, f"Ray {ray.__version__} lacks what search/running/faults.py uses: Trial.{name}"
