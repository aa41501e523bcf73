"""How much of the useful area each sampler finds, replayed from a table of real measurements.

    python -m tests.benchmarks.search [--table FILE] [--seeds N] [--trials N ...] [--concurrency N ...] [--processes N]

A search is the product's own `Suggestions`, with its lag behind the results, on a space that consists of the table's
configurations: each suggestion is replaced by the nearest one that was not measured before. All trials take equally
long. The useful area counts from the corner (quality of no adaptation, filter rate 0) and is given as a share of the
whole table's.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from search.baselines import ALL, NONE
from search.running.suggest import Parameters, Suggestions
from search.selection.pareto import hypervolume
from search.spec import Spec, load, objectives_of
from tests.benchmarks import measured_table
from tests.benchmarks.frame import Table, markdown, terminal
from tests.driven_search import drive

SAMPLERS = {  # label -> search.sampler, results that `auto` models at most
    "random": ("random", 0),
    "tpe": ("tpe", 0),
    "tpe, not worse than none": ("auto", 0),
    "auto": ("auto", 10_000),
}
TOLERATED = 0.98  # of the quality of adapting on everything, for the question what a user loses


class OnTable(Suggestions):
    """Suggestions of a table's configurations only."""

    def __init__(self, spec: Spec, concurrency: int, anchors: Any, table: pd.DataFrame, most_modelled: int):
        super().__init__(spec, concurrency, anchors)
        self.most_modelled = most_modelled
        self._rows = table[list(spec.space)].to_dict("records")
        self._points = self._cube.points(self._rows)
        self._taken: set[int] = set()

    def _draw(self, attempt: int) -> tuple[optuna.Trial, Parameters]:
        trial, parameters = super()._draw(attempt)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        away = np.abs(self._points - self._cube.points([parameters])).sum(axis=1)
        away[list(self._taken)] = np.inf
        row = int(np.argmin(away))
        self._taken.add(row)
        return self._take(dict(self._rows[row]))


def replay(spec: Spec, label: str, concurrency: int, seed: int, trials: int, file: Path) -> NDArray[np.float64]:
    """The objectives of a search's trials in the order in which they end, float [trials, 2]."""
    table, anchors = _read(file)
    sampler, most = SAMPLERS[label]
    its = replace(spec, search=replace(spec.search, sampler=sampler, seed=seed))
    suggestions, known = OnTable(its, concurrency, anchors, table, most), _by_parameters(its, table)

    def result(number: int, parameters: Parameters) -> tuple[float, ...]:
        return known[tuple(parameters.values())]

    asked, ended = drive(suggestions, trials, concurrency, result)
    return np.array([result(number, asked[number]) for number in ended])


@cache
def _read(file: Path) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    return measured_table.read(file)


def _by_parameters(spec: Spec, table: pd.DataFrame) -> dict[tuple[Any, ...], tuple[float, ...]]:
    rows = table.to_dict("records")
    return {tuple(row[key] for key in spec.space): objectives_of(spec.search, row) for row in rows}


class Truth:
    """The contents of the whole table. Objectives are (quality, filter rate)."""

    def __init__(self, spec: Spec, file: Path):
        table, anchors = _read(file)
        self.quality = spec.search.quality
        self.corner = (anchors[NONE][self.quality], 0.0)
        self.floor = TOLERATED * anchors[ALL][self.quality]
        self.points = table[[self.quality, "filter_rate"]].to_numpy()

    def share(self, values: NDArray[np.float64]) -> float:
        return hypervolume(values, self.corner) / hypervolume(self.points, self.corner)

    def lost(self, values: NDArray[np.float64]) -> float:
        """How much less can be skipped at a quality of at least TOLERATED than with the whole table."""
        return self._most(self.points) - self._most(values)

    def _most(self, values: NDArray[np.float64]) -> float:
        return float(values[values[:, 0] >= self.floor, 1].max(initial=0.0))


def compare(file: Path, seeds: int, trials: list[int], concurrency: list[int], processes: int) -> Iterator[Table]:
    spec = load(measured_table.SPACE)
    truth = Truth(spec, file)
    for at_once in concurrency:
        work = [(label, at_once, seed) for label, seed in product(SAMPLERS, range(seeds))]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            one = partial(replay, spec, trials=max(trials), file=file)
            runs = dict(zip(work, pool.starmap(one, work, chunksize=1), strict=True))
        rows = [_row(truth, label, trials, [runs[label, at_once, seed] for seed in range(seeds)]) for label in SAMPLERS]
        about = (
            f"{seeds} seeds on {len(truth.points)} measured configurations; share of the useful area, median "
            f"(quartiles). `lost`: by how much less can be skipped at {TOLERATED:.0%} of the quality of adapting on "
            "everything."
        )
        columns = ["sampler", *(f"{count} trials" for count in trials), f"lost at {trials[len(trials) // 2]}"]
        yield Table(f"{at_once} trial{'s' * (at_once > 1)} at once", about, columns, rows)


def _row(truth: Truth, label: str, trials: list[int], runs: list[NDArray[np.float64]]) -> list[str]:
    cells = [label]
    for count in trials:
        low, middle, high = np.quantile([truth.share(run[:count]) for run in runs], [0.25, 0.5, 0.75])
        cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
    lost = np.median([truth.lost(run[: trials[len(trials) // 2]]) for run in runs])
    return [*cells, f"{100 * lost:.1f} points"]


def main() -> None:
    arguments = _parse()
    console = Console(highlight=False, markup=False, width=140)
    for table in compare(
        arguments.table, arguments.seeds, arguments.trials, arguments.concurrency, arguments.processes
    ):
        console.print(markdown(table) if arguments.markdown else terminal(table))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=measured_table.TABLE, metavar="FILE", help="the measurements")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each kind")
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 48, 96], metavar="N", help="when to look")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 16], metavar="N", help="trials at once")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="searches replayed at the same time")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
