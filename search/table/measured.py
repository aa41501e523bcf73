"""Measurements kept on disk, so that none is repeated: NAME.npz holds the arrays and NAME.json the rest.

The name is a digest of everything that the measurement depends on. The .json is written last, and without it there is
no measurement.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from etarec.config import AdaptConfig, SplitName, UserError
from etarec.disk import whole_file, write_whole
from etarec.evaluate import Measurement
from search.subject import Job, Recommender

RECIPE = 5  # part of every name: raise it when the same configuration gives other numbers, or a default changes

_DEFAULTS = AdaptConfig()  # not part of a name, so that a new field does not rename earlier measurements
_ARRAYS = ("users", "ranks", "reasons")


def name_of(subject: Recommender, job: Job, split: SplitName) -> str:
    """The name of `job`'s measurement on `split`."""
    data, times = subject.data, subject.data.timestamps if subject.order == "time" else None
    depends_on = {
        "recipe": RECIPE,
        "adapt": {key: value for key, value in vars(job.config).items() if value != getattr(_DEFAULTS, key)},
        "seed": job.seed,
        "checkpoint": subject.checkpoint.sha256,
        "data": data.sha256,
        "times": "" if times is None else hashlib.sha256(times.tobytes()).hexdigest(),
        "order": [subject.order, subject.order_seed if subject.order == "shuffled" else 0],
        "split": split,
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{split}-{digest[:20]}"


def find(directory: Path, name: str) -> Measurement | None:
    """The measurement of this name, None if there is none. Raises UserError if its files are damaged."""
    about = directory / f"{name}.json"
    if not about.exists():
        return None
    try:
        plain = json.loads(about.read_text(encoding="utf-8"))
        with (directory / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as there:
            arrays = {key: there[key] for key in _ARRAYS}
        return Measurement(**arrays, seconds=plain["seconds"], costs=plain["costs"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise UserError(f"{about}: damaged ({error}); delete it to measure that row again") from error


def keep(directory: Path, name: str, measurement: Measurement, about: dict[str, Any]) -> None:
    """Write a finite measurement; `about` goes into the .json and tells people what was measured."""
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / f"{name}.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, **{key: getattr(measurement, key) for key in _ARRAYS})
    plain = {**about, "seconds": measurement.seconds, "costs": measurement.costs}
    write_whole(directory / f"{name}.json", json.dumps(plain, indent=2))
