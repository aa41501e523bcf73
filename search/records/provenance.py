"""The origin of a search's numbers: provenance.json, and the settings that a resumed search must share."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from etarec.checkpoint import Checkpoint
from etarec.clock import Stopwatch
from etarec.data import Interactions
from etarec.kernels import build
from etarec.metrics import quality
from search.redact import redacted, shown_uri
from search.spec import Spec, as_dict, flat, own_code

PACKAGES = ("torch", "ray", "optuna", "mlflow", "pandas", "numpy")
NUMERIC = ("torch", "numpy", "optuna")  # a trial's numbers and the suggestions depend on their versions
FREE_TO_CHANGE = (  # a resumed search may change the keys of its spec that begin like this: no trial depends on them
    "name",
    "data.path",
    "checkpoint",
    "baselines",
    "search.trials",
    "search.concurrency",
    "search.cpus_per_trial",
    "search.gpus_per_trial",
    "search.cuda_mps",
    "search.choose",
    "search.front",
    "search.retest",
    "search.max_minutes",
    "search.until",
    "search.converged_below",
    "search.bootstrap_replicates",
    "search.max_failures_in_a_row",
    "search.random_points",
    "search.retries",
    "search.trial_timeout",
)


@dataclass
class Provenance:
    """The content of provenance.json, filled step by step. `seconds` is wall-clock time by step."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    data: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    rehearsal: dict[str, Any] = field(default_factory=dict)  # its checkpoint and samples; empty without one
    seconds: dict[str, float] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    own_code: dict[str, str] = field(default_factory=dict)  # the digests of the sources of the user's own classes

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the block's seconds to those of the step; a block that raises counts for nothing."""
        stopwatch = Stopwatch()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + stopwatch.seconds

    def document(self) -> dict[str, Any]:
        """provenance.json as plain data."""
        return {
            "command": command(),
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": git(Path(__file__).parent),
            **({"own_code": self.own_code} if self.own_code else {}),
            "data": self.data,
            "checkpoint": self.checkpoint,
            **({"rehearsal": self.rehearsal} if self.rehearsal else {}),
            "versions": {"python": platform.python_version()} | packages(PACKAGES),
            "hardware": hardware(),
            "seconds": {step: round(seconds, 2) for step, seconds in self.seconds.items()},
            "tracking": shown_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"),
            "search": self.search,
        }


def about_data(spec: Spec, data: Interactions) -> dict[str, Any]:
    return {
        "source": spec.data.path or f"embedded: {spec.data.dataset}",
        "sha256": data.sha256,
        "users": data.n_users,
        "items": data.n_items - 1,
        "interactions": data.n_interactions,
        "samples": data.sample_counts(),
        "popularity": popularity(data),
        "order": spec.data.order,
    }


def popularity(data: Interactions) -> dict[str, float]:
    """The quality on validation of one ranking for all users: the items by their frequency in training.

    A tie counts against the target, as in every ranking.
    """
    positions = np.arange(data.n_interactions) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    ends = (data.train_end, data.valid_start, data.valid_end)
    trained, begin, end = (np.repeat(each, np.diff(data.offsets)) for each in ends)
    counts = np.bincount(data.items[positions <= trained], minlength=data.n_items)[1:]
    targets = data.items[(positions > begin) & (positions <= end)] - 1
    at_least = len(counts) - np.searchsorted(np.sort(counts), counts[targets])
    return quality((at_least - 1).astype(np.int32))


def about_checkpoint(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    about = {"path": str(path), "sha256": checkpoint.sha256, "epochs": checkpoint.epochs, "valid": checkpoint.valid}
    own = {"class": checkpoint.model.class_path, "code": checkpoint.code} if checkpoint.model.class_path else {}
    return {**about, **own}


def settings(spec: Spec, provenance: Provenance) -> dict[str, Any]:
    """The settings, by name, that a resumed search must share with its beginning."""
    document = flat(as_dict(spec))
    kept = {key: value for key, value in document.items() if not key.startswith(FREE_TO_CHANGE)}
    sha256 = {"data": provenance.data, "checkpoint": provenance.checkpoint}
    if provenance.rehearsal:
        sha256["rehearsal checkpoint"] = provenance.rehearsal
    about_them = {f"{key} sha256": about.get("sha256") for key, about in sha256.items()}
    order = ", ".join(spec.space)  # the sampler draws the fields in this order
    return {
        **kept,
        "search.order_of_space": order,
        **about_them,
        "packages": packages(NUMERIC),
        "code": sources() | own_code.sources(spec),
    }


def command() -> str:
    """The command line that started this process, as it can be typed again in the same folder, but without secrets."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", module.name.removesuffix(".__main__")] if module else ["python", sys.argv[0]]
    return shlex.join([*program, *(redacted(argument) for argument in sys.argv[1:] if argument != "--resume")])


def packages(names: Iterable[str]) -> dict[str, str]:
    return {name: version(name) for name in names}


def sources() -> dict[str, str]:
    """The digest of each source file of this program, by its path."""
    root = Path(__file__).parents[2]
    files = sorted(file for package in ("etarec", "search") for file in (root / package).rglob("*"))
    sources = [file for file in files if file.suffix in (".c", ".h", ".py")]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in sources}


def digest() -> str:
    """One short digest of all `sources`."""
    return hashlib.sha256(repr(sorted(sources().items())).encode()).hexdigest()[:12]


def git(folder: Path) -> dict[str, Any]:
    """The commit of the code and whether the code has changed since; None outside a checkout."""
    try:
        _git(folder, "ls-files", "--error-unmatch", "provenance.py")  # a package inside another checkout fails here
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cpu_code": build.kind(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
