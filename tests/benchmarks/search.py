"""How much of the useful area each sampler finds, replayed from tables of real measurements (replay.py).

    python -m tests.benchmarks.search [--space NAME ...] [--seeds N] [--concurrency N ...] [--page FILE]

prints a table for each space and concurrency. With --page it also writes the section "Measured" of that page, and a
plot for each space beside it.
"""

import argparse
import multiprocessing
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tests.benchmarks.frame import Table, markdown, terminal
from tests.benchmarks.replay import CONFIGS, SAMPLERS, TABLES, TOLERATED, Measured, Truth, replay
from tests.benchmarks.search_plot import draw

Floats = NDArray[np.float64]

PLOTTED = 8  # trials at once
SPACES = sorted(file.name.removesuffix(".csv.gz") for file in TABLES.glob("*.csv.gz"))  # by their files in configs/
CHECKPOINTS = (24, 48, 64, 96)
LEVELS = (0.8, 0.9, 0.95)
HEADING = "## Measured"


class Shares(NamedTuple):
    """Of each seed and number of trials, float [seeds, trials]: see Truth."""

    area: Floats
    beyond: Floats
    lost: Floats


def measured(space: str) -> Measured:
    return Measured.read(CONFIGS / f"{space}.yaml", TABLES / f"{space}.csv.gz")


def shares(space: str, concurrency: int, trials: int, work: tuple[str, int]) -> Floats:
    """What a search by a sampler with a seed reaches after each trial, float [3, trials] in the order of `Shares`."""
    material = measured(space)
    truth, values = Truth(material), replay(material, work[0], concurrency, work[1], trials)
    prefixes = [values[: count + 1] for count in range(trials)]
    return np.array([[judge(prefix) for prefix in prefixes] for judge in (truth.share, truth.beyond, truth.lost)])


def compare(space: str, concurrency: int, seeds: int, trials: int, processes: int) -> dict[str, Shares]:
    """The searches of every sampler."""
    work = list(product(SAMPLERS, range(seeds)))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        runs = pool.map(partial(shares, space, concurrency, trials), work, chunksize=1)
    by_sampler = np.array(runs).reshape(len(SAMPLERS), seeds, 3, trials)
    return {label: Shares(*np.moveaxis(of_one, 1, 0)) for label, of_one in zip(SAMPLERS, by_sampler, strict=True)}


def tabulated(space: str, concurrency: int, found: dict[str, Shares]) -> Table:
    trials = next(iter(found.values())).area.shape[1]
    counts = [count for count in CHECKPOINTS if count <= trials]
    columns = ["sampler", *(f"{count} trials" for count in counts), *(f"to {level:.0%}" for level in LEVELS)]
    columns += [f"area at {count}" for count in counts] + [f"lost at {counts[-1]}"]
    rows = [[label, *_cells(of_one, counts)] for label, of_one in found.items()]
    return Table(f"{space}, {concurrency} trial{'s' * (concurrency > 1)} at once", "", columns, rows)


def _cells(found: Shares, counts: Sequence[int]) -> list[str]:
    quartiles = [np.quantile(found.beyond[:, count - 1], [0.5, 0.25, 0.75]) for count in counts]
    return [
        *(f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in quartiles),
        *(_trials_to(level, found.beyond) for level in LEVELS),
        *(f"{np.median(found.area[:, count - 1]):.3f}" for count in counts),
        f"{100 * np.median(found.lost[:, counts[-1] - 1]):.1f}",
    ]


def _trials_to(level: float, reached: Floats) -> str:
    """The median number of trials after which a search has reached the level, of all searches."""
    needed = np.where((reached >= level).any(axis=1), (reached >= level).argmax(axis=1) + 1, np.inf)
    return "-" if np.isinf(middle := np.median(needed)) else f"{middle:.0f}"


def about(space: str, seeds: int) -> str:
    truth = Truth(measured(space))
    return (
        f"`configs/{space}.yaml`: {len(truth.points):,} configurations, of which "
        f"{(truth.points[:, 0] <= truth.corner[0]).mean():.0%} are no better than no adaptation. The anchors alone "
        f"cover {truth.free:.1%} of the area under table and anchors. Columns with a number of trials, and those "
        f"with a percentage, are about the share of the rest: median of {seeds} searches (quartiles), and the trials "
        f"that half of the searches need. `area` is the area under the trials alone. `lost` is how many percentage "
        f"points less can be skipped, at {TOLERATED:.0%} of the quality of adapting on everything, than with the best "
        "configuration of the table."
    )


def main() -> None:
    arguments = _parse()
    console = Console(highlight=False, markup=False, width=160)
    sections = []
    for space in arguments.space:
        console.print(about(space, arguments.seeds))
        sections.append(f"### {space}\n\n{about(space, arguments.seeds)}\n")
        for concurrency in arguments.concurrency:
            found = compare(space, concurrency, arguments.seeds, arguments.trials, arguments.processes)
            table = tabulated(space, concurrency, found)
            console.print(terminal(table))
            sections.append("##" + markdown(table).replace("\n\n\n", "\n"))
            if arguments.page and concurrency == PLOTTED:
                draw(arguments.page.parent / f"search-{space}.svg", {label: one.beyond for label, one in found.items()})
    if arguments.page:
        _write(arguments.page, sections)


def _write(page: Path, sections: Sequence[str]) -> None:
    """Replace the section of the heading, up to the next heading of its level."""
    before, _, rest = page.read_text(encoding="utf-8").partition(f"{HEADING}\n")
    _, mark, after = rest.partition("\n## ")
    page.write_text(before + "\n".join([HEADING, "", *sections]) + mark + after, encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--space", nargs="+", choices=SPACES, default=SPACES, help="experiments of configs/ that have a table"
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each kind")
    parser.add_argument("--trials", type=int, default=CHECKPOINTS[-1], metavar="N", help="of a search")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 16], metavar="N", help="trials at once")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="searches replayed at the same time")
    parser.add_argument("--page", type=Path, metavar="FILE", help="Markdown page whose last section is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
