"""Helpers for tests of failing attempts."""

from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError


def folder_of(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def by_the_memory_monitor(patch: pytest.MonkeyPatch, death: type[Exception]) -> None:
    """Lets the driver hear of every killed worker that Ray's memory monitor killed it."""
    get = ray.get

    def answer(*args: Any, **options: Any) -> Any:
        try:
            return get(*args, **options)
        except death as error:
            raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.") from error

    patch.setattr("ray.get", answer)
