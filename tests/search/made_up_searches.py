"""Folders of made-up searches that differ in one setting."""

from pathlib import Path
from typing import Any

from made_up_search import made_up_files, write


def folder(place: Path, quality: str = "hr_at_10", data: str = "9b1d" * 16, **settings: Any) -> Path:
    """The folder of a search; a setting such as train__seed=1 replaces one of its spec."""
    files = made_up_files(quality)
    for name, value in settings.items():
        section, _, key = name.partition("__")
        files["spec.yaml"][section] = {**files["spec.yaml"].get(section, {}), key: value}
    files["provenance.json"]["data"]["sha256"] = data
    files["provenance.json"]["search"] |= {"area_share": 0.8, "gain_over_dice": 0.1}
    return write(place, files)
