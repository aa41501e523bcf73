"""The answer of a search, from its files: the advice, the findings, the judged rows and the next command."""

import math
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath

import pandas as pd

from search import baselines
from search.report import trend
from search.report.files import Run
from search.report.finding import Finding
from search.report.findings import findings, more_trials, without_choice
from search.selection import other_objectives
from search.selection.advice import Advice, Verdict
from search.selection.judgement import Judged, judge
from search.selection.verdict import advise
from search.selection.view import Row, View

COMMAND_WIDTH = 68  # columns; to the right of a label it then fits a terminal of 80


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
        advice = advise(self.chosen, self.baselines, self.front, self.view, self.run.tolerance, self.run.beaten)
        left_out = other_objectives.sentence(self.run.objectives, self.chosen, self.baselines, self.view)
        return replace(advice, reasons=(*advice.reasons, left_out)) if left_out else advice

    @cached_property
    def findings(self) -> list[Finding]:
        if self.chosen is None:
            beaten = self.run.beaten
            return without_choice(self.baselines, self.view, self.run.tolerance, beaten) if beaten else []
        found = findings(self.chosen, self.baselines, self.front, self.view, self.run.tolerance)
        late = trend.late_gain(trend.areas(self.run))
        grows = late if late is not None and late >= trend.LITTLE else None
        more = more_trials(self.run.expected_gain, grows, self.run.more_trials)
        return [*found, *([more] if more else [])]

    @cached_property
    def judged(self) -> dict[str, Judged]:
        """The judgement of each row of the front and of the baselines, by name."""
        return {str(row["trial_id"]): self._judge(row) for row in (*self.front, *self.fixed)}

    def _judge(self, row: Row) -> Judged:
        chosen, random = str(self.run.chosen.get("trial_id")), self.baselines.get(baselines.RANDOM)
        return judge(row, self.front, self.view, chosen, random)

    @property
    def fixed(self) -> list[Row]:
        return list(self.baselines.values())

    @property
    def along_front(self) -> list[Row]:
        """The baselines that skip at random at rates of their own."""
        return [row for name, row in self.baselines.items() if baselines.along_front(name)]

    @property
    def next_is_known(self) -> bool:
        """Whether there is a next command: not where every trial failed."""
        return self.chosen is not None or self.run.beaten > 0

    def command(self, folder: PurePath) -> str:
        """The next command to run, for the search in `folder`."""
        space, train = _space(folder), self.run.spec.get("train") or {}
        resume = (*space, f"--out {shlex.quote(str(folder))}", "--resume")
        if self.view.split == "valid":
            return _command(*resume)
        if self.advice.verdict in (Verdict.NOT_SETTLED, Verdict.ADAPT_ON_ALL):
            return _command(*resume, f"--trials {self.run.more_trials}")
        if self.chosen and self.run.spec.get("checkpoint"):
            return self.fixed_command(folder)
        seed = f"--set train.seed={int(train.get('seed') or 0) + 1}"
        return _command(*space, seed, *(self._settings() if self.advice.verdict is Verdict.USE else ()))

    def purpose(self) -> str:
        """The purpose of `command`, in words."""
        if self.view.split == "valid":
            return "finish the search"
        match self.advice.verdict:
            case Verdict.NOT_SETTLED:
                return "search on with more trials"
            case Verdict.ADAPT_ON_ALL:
                return "look for a cheaper gate with more trials"
            case _ if self.chosen and self.run.spec.get("checkpoint"):
                return "measure the chosen configuration again"
            case Verdict.USE:
                return "confirm the chosen configuration on a model from another training seed"
            case _:
                return "confirm that on a model from another training seed"

    def fixed_command(self, folder: PurePath) -> str:
        """The command that measures the chosen configuration alone."""
        return _command(*_space(folder), *self._settings())

    def _settings(self) -> list[str]:
        return [f"--set {shlex.quote(str(text))}" for text in self.run.chosen.get("set") or []]


def _space(folder: PurePath) -> tuple[str, str]:
    return "python -m search.tune", f"--space {shlex.quote(str(folder / 'spec.yaml'))}"


def _command(*parts: str) -> str:
    """A command in one line, or in several for the shell to join where it would be wide."""
    line = " ".join(parts)
    return line if len(line) <= COMMAND_WIDTH else " \\\n    ".join((" ".join(parts[:2]), *parts[2:]))


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The lines of a result file; a missing value is None."""
    rows = frame.to_dict("records")
    plain = [{str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return [{**row, "on_test_front": str(row.get("on_test_front")).lower() == "true"} for row in plain]
