"""The searches of a comparison: their answers, their names and the settings in which they differ."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from etarec.config import UserError
from etarec.metrics import label
from search import baselines
from search.report.answer import Answer, rows_of
from search.report.files import load
from search.selection.other_objectives import left_out
from search.selection.view import Row, Split, View
from search.spec import flat

SEEDS = ("search.seed", "train.seed")  # searches that differ in nothing else repeat each other
_WITHOUT_EFFECT = ("name", "search.concurrency", "search.cpus_per_trial", "search.gpus_per_trial")


@dataclass(frozen=True, eq=False)
class Search:
    """A finished search and the split that the comparison quotes."""

    name: str
    answer: Answer
    split: Split

    @property
    def view(self) -> View:
        return View(self.split, self.answer.view.metric)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The flat spec without what cannot change a number, and the commit."""
        run = self.answer.run
        spec = {key: value for key, value in flat(run.spec).items() if not key.startswith(_WITHOUT_EFFECT)}
        commit = (run.provenance.get("git") or {}).get("commit")
        return {**spec, "commit": str(commit)[:10] if commit else None}

    @property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """The settings without the seeds, equal for searches that repeat each other."""
        return tuple(sorted((key, str(value)) for key, value in self.settings.items() if key not in SEEDS))

    @property
    def other_objectives(self) -> list[str]:
        """The labels of the objectives that the comparison does not draw."""
        return [label(name) for name in left_out(self.answer.run.objectives, self.view)]

    @property
    def data(self) -> str:
        return str((self.answer.run.provenance.get("data") or {}).get("sha256"))

    @property
    def anchors(self) -> tuple[float, float] | None:
        """The quality of no adaptation and of adapting on every sample; None where one was not measured."""
        rows = [self.answer.baselines.get(name) for name in (baselines.NONE, baselines.ALL)]
        none, everything = (self.view.quality(row) if row and self.view.measured(row) else None for row in rows)
        return None if none is None or everything is None else (none, everything)

    def points(self) -> list[tuple[float, float, Row]]:
        """Skipped passes, quality and row of each front point and of both ends, by skipped passes."""
        ends = [row for name, row in self.answer.baselines.items() if name in (baselines.NONE, baselines.ALL)]
        rows = [row for row in (*rows_of(self.answer.run.front), *ends) if self.view.measured(row)]
        places = ((self.view.skipped(row), self.view.quality(row), row) for row in rows)
        return sorted(places, key=lambda place: place[:2])


def load_all(directories: list[Path]) -> list[Search]:
    """The searches in these folders. All are quoted from test, or from validation if one was not measured on test.

    Raises UserError where a folder holds no readable search, or where the searches have other quality metrics.
    """
    answers = [Answer(load(directory)) for directory in directories]
    metrics = {answer.view.metric for answer in answers}
    if len(metrics) > 1:
        raise UserError(f"searches for {' and '.join(sorted(metrics))}, expected one quality metric in all of them")
    split: Split = "test" if all(answer.view.split == "test" for answer in answers) else "valid"
    names = _names(directories)
    return [Search(name, answer, split) for name, answer in zip(names, answers, strict=True)]


def comparable(searches: list[Search]) -> bool:
    """Whether the areas of all searches are in the same objectives."""
    return len({tuple(sorted(search.answer.run.objectives)) for search in searches}) == 1


def differing(searches: list[Search]) -> list[str]:
    """The settings, by flat name, that are not the same in all searches."""
    names = dict.fromkeys(name for search in searches for name in search.settings)
    return [name for name in names if len({str(search.settings.get(name)) for search in searches}) > 1]


def repeated(searches: list[Search]) -> list[list[Search]]:
    """The groups of two and more searches that differ in their seeds only."""
    groups: dict[tuple[tuple[str, str], ...], list[Search]] = {}
    for search in searches:
        groups.setdefault(search.kind, []).append(search)
    return [group for group in groups.values() if len(group) > 1]


def _names(directories: list[Path]) -> list[str]:
    """The folders' last parts, as many as tell them apart."""
    parts = [directory.absolute().parts for directory in directories]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError("the same folder twice, expected each search once")
