"""The answer of a search, from its files: the advice, the findings, the judged rows and the next command."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import pandas as pd

from search import baselines
from search.report.files import Run
from search.report.findings import Finding, findings
from search.selection.judgement import Judged, judge
from search.selection.verdict import Advice, Verdict, advise
from search.selection.view import Row, View


@dataclass(frozen=True)
class Answer:
    """Everything that page, terminal and MLflow say about the outcome of one search."""

    run: Run

    @property
    def view(self) -> View:
        return self.run.view

    @cached_property
    def front(self) -> list[Row]:
        """The front's rows by the share of skipped passes on validation."""
        return sorted(rows_of(self.run.front), key=lambda row: float(row["valid_filter_rate"]))

    @cached_property
    def baselines(self) -> dict[str, Row]:
        return {str(row["trial_id"]): row for row in rows_of(self.run.baselines)}

    @cached_property
    def chosen(self) -> Row | None:
        name = str(self.run.chosen.get("trial_id"))
        return next((row for row in self.front if row["trial_id"] == name), None)

    @cached_property
    def advice(self) -> Advice:
        return advise(self.chosen, self.baselines, self.front, self.view, self.run.tolerance)

    @cached_property
    def findings(self) -> list[Finding]:
        if self.chosen is None:
            return []
        return findings(self.chosen, self.baselines, self.front, self.view, self.run.tolerance)

    @cached_property
    def judged(self) -> dict[str, Judged]:
        """The judgement of each row of the front and of the baselines, by name."""
        return {str(row["trial_id"]): judge(row, self.front, self.view) for row in (*self.front, *self.fixed)}

    @property
    def fixed(self) -> list[Row]:
        return list(self.baselines.values())

    @property
    def along_front(self) -> list[Row]:
        """The baselines that skip at random at rates of their own."""
        return [row for name, row in self.baselines.items() if baselines.along_front(name)]

    def command(self, folder: PurePath) -> str:
        """The next command to run, for the search in `folder`."""
        tune = f"python -m search.tune --space {shlex.quote(str(folder / 'spec.yaml'))}"
        resume = f"{tune} --out {shlex.quote(str(folder))} --resume"
        if self.advice.verdict in (Verdict.NOT_SETTLED, Verdict.ADAPT_ON_ALL):
            return f"{resume} --trials {2 * len(self.run.trials)}" if self.view.split == "test" else resume
        if self.run.spec.get("checkpoint"):
            return self.fixed_command(folder)
        another = f"{tune} --set train.seed={self._another_seed()}"
        return f"{another} {self._settings()}" if self.advice.verdict is Verdict.USE else another

    def purpose(self) -> str:
        """The purpose of `command`, in words."""
        if self.view.split == "valid":
            return "finish the search"
        match self.advice.verdict:
            case Verdict.NOT_SETTLED:
                return "search on with twice as many trials"
            case Verdict.ADAPT_ON_ALL:
                return "look for a cheaper gate with twice as many trials"
            case _ if self.run.spec.get("checkpoint"):
                return "measure the chosen configuration again"
            case Verdict.USE:
                return "confirm the chosen configuration on a model from another training seed"
            case _:
                return "confirm that on a model from another training seed"

    def fixed_command(self, folder: PurePath) -> str:
        """The command that measures the chosen configuration alone."""
        return f"python -m search.tune --space {shlex.quote(str(folder / 'spec.yaml'))} {self._settings()}"

    def _settings(self) -> str:
        return " ".join(f"--set {shlex.quote(str(text))}" for text in self.run.chosen.get("set") or [])

    def _another_seed(self) -> int:
        train: Mapping[str, Any] = self.run.spec.get("train") or {}
        return int(train.get("seed") or 0) + 1


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The lines of a result file; a missing value is None."""
    rows = frame.to_dict("records")
    plain = [{str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return [{**row, "on_test_front": str(row.get("on_test_front")).lower() == "true"} for row in plain]
