"""The parts of the report that look closer at a search: its sentences and its plots, each made once."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from search import baselines
from search.report import along, axes, importance, maps, objectives, parallel, seconds, shrinkage, trend
from search.report.answer import Answer
from search.report.health import Problem, problems
from search.report.importance import Importances
from search.report.parallel import Parallel
from search.report.pareto_plot import Describe, Frames


@dataclass(frozen=True)
class Sections:
    """Everything that the report says beside the answer."""

    answer: Answer

    @cached_property
    def frames(self) -> Frames:
        run = self.answer.run
        return Frames(run.finished, run.front, run.baselines, str(run.chosen.get("trial_id", "")), run.quality)

    @cached_property
    def importances(self) -> Importances:
        return importance.importances(self.answer.run)

    @cached_property
    def problems(self) -> list[Problem]:
        return problems(self.answer)

    @cached_property
    def noise(self) -> float | None:
        return seconds.spread(self.answer.fixed, self.answer.view.split)

    @cached_property
    def _learning(self) -> pd.DataFrame:
        split = self.answer.view.split
        return seconds.measured(self.frames, seconds.PREFIXES[split], self.answer.run.samples(split))

    @cached_property
    def _both(self) -> pd.DataFrame:
        return shrinkage.measured(self.frames)

    @cached_property
    def _grown(self) -> pd.DataFrame:
        return trend.areas(self.answer.run)

    def sentences(self) -> dict[str, str]:
        """The sentences by name; empty ones where nothing was measured."""
        return {
            "by_learning": seconds.sentence(self._learning, self.frames.metric),
            "serving": self._serving(),
            "agreement": shrinkage.sentence(self._both, self.frames.metric),
            "budget": trend.sentence(self._grown, self.answer.run.expected_gain),
        }

    def _serving(self) -> str:
        answer = self.answer
        split, samples = answer.view.split, answer.run.samples(answer.view.split)
        everything = answer.baselines.get(baselines.ALL)
        if answer.chosen is None or everything is None or split == "valid":
            return ""
        mine, other = (seconds.cost(row, split, samples) for row in (answer.chosen, everything))
        return seconds.serving(str(answer.chosen["trial_id"]), mine, other, self.noise)

    def parallel(self) -> Parallel | None:
        return parallel.coordinates(self.answer.run, self.frames.chosen)

    def plots(self, describe: Describe) -> dict[str, list[tuple[str, str]]]:
        """The plots by section: titles and HTML fragments."""
        run, prefix = self.answer.run, seconds.PREFIXES[self.answer.view.split]
        searched = axes.searched(run)
        drawn = {
            "by_parameter": maps.by_parameter(run),
            "pairs": maps.pairs(run, searched, self.importances, self.frames.chosen) if len(run.finished) else [],
            "trends": trend.plots(self._grown),
            "streams": along.plots(run),
            "objectives": objectives.plots(run, self.frames),
        }
        if len(self._learning):
            drawn["learning"] = [("", seconds.plot(self.frames, prefix, self._learning, describe))]
        if shrinkage.agreement(self._both):
            drawn["shrinkage"] = [("", shrinkage.plot(self.frames, self._both, describe))]
        return {"learning": [], "shrinkage": [], **drawn}
