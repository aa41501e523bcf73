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
from textwrap import fill
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
MOST_OF_TABLE = 0.5  # that a search measures: of more, every sampler finds most of the front


class Shares(NamedTuple):
    """Shares that each seed reached after each number of trials, float [seeds, trials]: see Truth."""

    area: Floats
    beyond: Floats
    lost: Floats


def measured(space: str) -> Measured:
    return Measured.read(CONFIGS / f"{space}.yaml", TABLES / f"{space}.csv.gz")


def shares(space: str, concurrency: int, trials: int, work: tuple[str, int]) -> Floats:
    """The shares that one search reaches after each trial, float [3, trials] in the order of `Shares`."""
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


def tabulated(space: str, concurrency: int, found: dict[str, Shares]) -> list[Table]:
    """A table of the shares beyond the anchors, and one of the other measures."""
    trials = next(iter(found.values())).area.shape[1]
    counts, title = [count for count in CHECKPOINTS if count <= trials], f"{space}, {concurrency} at once"
    levels, middle = [f"trials to {level:.0%}" for level in LEVELS], counts[len(counts) // 2 - 1]
    shares_found = [[label, *_quartiles(of_one.beyond, counts)] for label, of_one in found.items()]
    others = [[label, *_others(of_one, counts, middle)] for label, of_one in found.items()]
    measures = ["sampler", *levels, *(f"area at {count}" for count in counts), f"lost at {middle}"]
    return [
        Table(title, "", ["sampler", *(f"{count} trials" for count in counts)], shares_found),
        Table(f"{title}: other measures", "", measures, others),
    ]


def _quartiles(reached: Floats, counts: Sequence[int]) -> list[str]:
    of_counts = [np.quantile(reached[:, count - 1], [0.5, 0.25, 0.75]) for count in counts]
    return [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in of_counts]


def _others(found: Shares, counts: Sequence[int], middle: int) -> list[str]:
    return [
        *(_trials_to(level, found.beyond) for level in LEVELS),
        *(f"{np.median(found.area[:, count - 1]):.3f}" for count in counts),
        f"{100 * np.median(found.lost[:, middle - 1]):.1f}",
    ]


def _trials_to(level: float, reached: Floats) -> str:
    """The median number of trials after which a search has reached the level, of all searches."""
    needed = np.where((reached >= level).any(axis=1), (reached >= level).argmax(axis=1) + 1, np.inf)
    return "-" if np.isinf(middle := np.median(needed)) else f"{middle:.0f}"


def most_trials(space: str, asked: int) -> int:
    """The trials of a search on a table: as many as asked for, but no more than MOST_OF_TABLE of its rows."""
    return min(asked, int(MOST_OF_TABLE * len(measured(space).table)))


def about(space: str, seeds: int) -> str:
    truth, levels = Truth(measured(space)), ", ".join(f"{level:.0%}" for level in LEVELS)
    return (
        f"`configs/{space}.yaml`: {len(truth.points):,} configurations were measured, of which "
        f"{(truth.points[:, 0] <= truth.corner[0]).mean():.0%} are no better than no adaptation. The anchors alone "
        f"cover {truth.free:.1%} of the area under table and anchors, before any trial. The first table of each "
        f"concurrency gives the share found of the rest: the median of {seeds} searches, and the quartiles. The second "
        f"gives the trials after which half of the searches have found {levels} of it. `area` is the area under "
        "the trials alone, as a share of the area under the table. `lost` is by how many percentage points fewer "
        f"passes can be skipped, at {TOLERATED:.0%} of the quality of adapting on everything, than with the best "
        "configuration of the table."
    )


def main() -> None:
    arguments = _parse()
    console = Console(highlight=False, markup=False, width=120)
    sections = []
    for space in arguments.space:
        trials = most_trials(space, arguments.trials)
        if trials < CHECKPOINTS[0]:
            console.print(f"{space}: its table is too small for searches of {CHECKPOINTS[0]} trials")
            continue
        console.print(about(space, arguments.seeds))
        sections.append(f"### {space}\n\n{fill(about(space, arguments.seeds), 120)}\n")
        for concurrency in arguments.concurrency:
            found = compare(space, concurrency, arguments.seeds, trials, arguments.processes)
            tables = tabulated(space, concurrency, found)
            console.print(*map(terminal, tables), sep="\n")
            sections += ["##" + markdown(table).replace("\n\n\n", "\n") for table in tables]
            if arguments.page and concurrency == PLOTTED:
                sections.append(_plotted(arguments.page.parent / f"search-{space}.svg", found))
    if arguments.page:
        _write(arguments.page, sections)


def _plotted(file: Path, found: dict[str, Shares]) -> str:
    """The Markdown of a plot of the shares beyond the anchors."""
    draw(file, {label: of_one.beyond for label, of_one in found.items()})
    return f"![share found after each trial, {PLOTTED} at once]({file.name})\n"


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
    parser.add_argument("--page", type=Path, metavar="FILE", help=f"page whose section {HEADING} is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
