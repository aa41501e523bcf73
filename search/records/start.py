"""The start of a search: trials of earlier searches, and the settings that a resumed search is compared by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.records.trial import Trial


@dataclass(frozen=True)
class Source:
    """An earlier search from which this one started.

    trials: number of its trials that were taken. first: number of its configurations that are tried first.
    """

    folder: str
    identity: str
    trials: int = 0
    first: int = 0

    def __str__(self) -> str:
        """30 trials of /home/ada/runs/mine"""
        count, what = (self.trials, "trial") if self.trials or not self.first else (self.first, "first trial")
        return f"{count} {what}{'s' * (count != 1)} {'of' if what == 'trial' else 'from the front of'} {self.folder}"


@dataclass(frozen=True)
class Start:
    """The trials taken from earlier searches, numbered from 0, and the parameters to try first."""

    trials: Sequence[Trial] = ()
    first: Sequence[dict[str, Any]] = ()
    sources: Sequence[Source] = ()


def other_than_software(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """The names of the changed settings, without those of code and packages."""
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    return changed - {"code", "packages"}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The changed settings in words; a group, such as source files or packages, is told by its changed members."""
    texts = []
    for name in sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        old, new = before.get(name), now.get(name)
        if isinstance(new, dict) and isinstance(old, dict):
            parts = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
            named = parts if name == "code" else (f"{part} {old.get(part)} -> {new.get(part)}" for part in parts)
            texts.append(f"{name} was changed: {', '.join(named)}")
        elif isinstance(new, dict):
            texts.append(f"{name}: was not recorded")
        else:
            texts.append(f"{name}: was {old}, now {new}")
    return texts


def searched_fields(settings: Mapping[str, Any]) -> set[str]:
    return {name.split(".")[1] for name in settings if name.startswith("space.")}
