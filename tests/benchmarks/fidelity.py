"""Which reduction of the stream keeps the order of configurations.

    python -m tests.benchmarks.fidelity --out FILE [--space FILE] [--search DIR] [--configurations N] [--minutes M]

measures configurations spread evenly over the space on the whole validation stream and on each reduction of it, one
after the other on one thread, for about M minutes of CPU time, and keeps them in a table. Called again, it goes on. It
then prints each reduction's rank correlation with the whole. Every measurement starts from the checkpoint, and on its
own first batch, as a trial on that stream would. Trials see validation only, so the table does too.

With --search, configurations and their results on the whole are those of a finished search's trials, in random order,
and only the reductions are measured.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr

from etarec import data
from etarec.adapt.shared_passes import SharedPasses
from etarec.config import AdaptConfig
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.evaluate import Measurement, measure
from search import prepare
from search.experiment import Experiment
from search.records.records import Records
from search.records.states import State
from search.sampler.proposal import spread
from search.selection.pareto import non_dominated
from search.spec import Spec, load, trial_config, trial_seed
from search.spec.space import settled
from search.subject import Recommender
from search.surrogate.cube import Cube
from tests.benchmarks.frame import Table, terminal
from tests.benchmarks.measured_table import SPACE

SHARE = 4  # a reduction has one sample of this many
SEED = 1  # of the spread, and of the users drawn
FIRST_SHARES = (0.1, 0.25, 0.5)  # of the whole stream, by which its first part is judged

Rows = NDArray[np.int64]
Row = dict[str, float]


def last(stream: Stream, batch: int) -> Rows:
    return np.arange(len(stream) - len(stream) // SHARE, len(stream))


def users(stream: Stream, batch: int) -> Rows:
    drawn = np.random.default_rng(SEED).random(int(stream.users.max()) + 1) < 1 / SHARE
    return np.flatnonzero(drawn[stream.users])


def batches(stream: Stream, batch: int) -> Rows:
    return np.flatnonzero(np.arange(len(stream)) // batch % SHARE == 0)


REDUCED: dict[str, Callable[[Stream, int], Rows]] = {  # the first share is a part of the whole's own measurement
    f"last 1/{SHARE}": last,
    f"1 user of {SHARE}": users,
    f"1 batch of {SHARE}": batches,
}


class Streams:
    """A model and its passes over the whole stream and over each reduction."""

    def __init__(self, subject: Recommender, batch: int):
        self.subject, self.model = subject, subject.checkpoint.restore(torch.device("cpu"))
        self.encoder = Encoder(subject.data, torch.device("cpu"))
        whole = data.stream(subject.data, "valid", subject.order, subject.order_seed)
        parts = {name: rows(whole, batch) for name, rows in REDUCED.items()}
        self.streams = {"whole": whole} | {
            name: Stream(whole.users[p], whole.positions[p]) for name, p in parts.items()
        }
        self.passes: dict[str, SharedPasses] = {}

    def measure(self, name: str, config: AdaptConfig, seed: int) -> tuple[Measurement, float]:
        """The measurement and its CPU seconds, without those of the passes that all trials share."""
        if name not in self.passes:
            identity = ("fidelity",)
            self.passes[name] = SharedPasses(self.model, self.encoder, self.streams[name], identity, None)
            self.measure(name, config, seed)
        self.subject.checkpoint.reset(self.model)
        shared, begin = self.passes[name], time.process_time()
        measured = measure(self.model, self.encoder, shared.stream, config, seed, shared)
        return measured, time.process_time() - begin


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(1)
    spec = load(arguments.space, arguments.set)
    rows = pd.read_csv(arguments.out).to_dict("records") if arguments.out.exists() else []
    if len(rows) < arguments.configurations:
        with TemporaryDirectory() as folder:
            subject = prepare.prepare(Experiment(spec, Path(folder))).without_test()
            streams, begin = Streams(subject, spec.adapt.batch_size), time.process_time()
            source = _spread_rows(spec, streams) if arguments.search is None else _search_rows(spec, arguments.search)
            for row in _measured(spec, streams, itertools.islice(source, len(rows), arguments.configurations)):
                rows.append(row)
                pd.DataFrame(rows).to_csv(arguments.out, index=False)
                if time.process_time() - begin > 60 * arguments.minutes:
                    break
    Console(width=100).print(terminal(summary(pd.DataFrame(rows), spec.name)))


def _spread_rows(spec: Spec, streams: Streams) -> Iterator[tuple[AdaptConfig, Row]]:
    """Configurations spread over the space, without end, and their rows of the whole."""
    cube = Cube(spec.space, spec.adapt)
    for number in itertools.count():
        config = trial_config(spec, settled(spec.space, spec.adapt, spread(cube, number, SEED)))
        measured, seconds = streams.measure("whole", config, trial_seed(spec.search.seed, config))
        yield config, _whole(measured.metrics(), measured.curve("hr_at_10")) | {"whole s": seconds}


def _search_rows(spec: Spec, folder: Path) -> Iterator[tuple[AdaptConfig, Row]]:
    """The finished trials of a search in random order, and their rows of the whole."""
    finished = Records(folder).in_state(State.FINISHED)
    for place in np.random.default_rng(SEED).permutation(len(finished)):
        trial = finished[place]
        yield trial_config(spec, trial.parameters), _whole(trial.metrics, trial.curve)


def _measured(spec: Spec, streams: Streams, source: Iterable[tuple[AdaptConfig, Row]]) -> Iterator[Row]:
    for config, row in source:
        for name in REDUCED:
            measured, seconds = streams.measure(name, config, trial_seed(spec.search.seed, config))
            values = measured.metrics()
            row |= {
                f"{name} quality": values["hr_at_10"],
                f"{name} filter": values["filter_rate"],
                f"{name} s": seconds,
            }
        yield row


def _whole(metrics: Mapping[str, float], curve: Mapping[str, list[float]]) -> Row:
    """Quality and filter rate of the whole stream and of its first shares."""
    row = {"whole quality": metrics["hr_at_10"], "whole filter": metrics["filter_rate"]}
    sizes = np.diff([0, *curve["samples"]])
    for share in FIRST_SHARES:
        count = round(share * len(sizes))
        row[f"first {share:g} quality"] = float(np.average(curve["hr_at_10"][:count], weights=sizes[:count]))
        row[f"first {share:g} filter"] = float(np.average(curve["filter_rate"][:count], weights=sizes[:count]))
    return row


def summary(table: pd.DataFrame, name: str) -> Table:
    """Spearman's correlation with the whole, how much of the whole's front a reduction finds, and its cost.

    The last but one column counts the configurations that would have to be measured on the whole for the whole's front
    to be among them, if those nearest to the reduction's front are taken first.
    """
    names = [column.removesuffix(" quality") for column in table.columns if column.endswith(" quality")]
    rows = [[one, *_agreement(table, one)] for one in names if one != "whole"]
    return Table(
        f"Reductions of the stream of {name}, {len(table)} configurations",
        "",
        ["reduction", "Spearman HR@10", "of filter rate", "its front has", "all of the whole's front in", "CPU time"],
        rows,
    )


def _agreement(table: pd.DataFrame, name: str) -> list[Any]:
    quality, rate = (
        float(spearmanr(table[f"{name} {key}"], table[f"whole {key}"]).statistic) for key in ("quality", "filter")
    )
    whole, reduced = _front(table, "whole"), _front(table, name)
    timed = f"{name} s" in table and "whole s" in table
    cost = float(table[f"{name} s"].sum() / table["whole s"].sum()) if timed else None
    kept = f"{(whole & reduced).sum()} of {whole.sum()}"
    return [f"{quality:.3f}", f"{rate:.3f}", kept, _promoted(table, name, whole), cost]


def _promoted(table: pd.DataFrame, name: str, wanted: NDArray[np.bool_]) -> int:
    """The number of configurations whose quality is as near to the reduced front as that of every wanted one."""
    quality, rate = (table[f"{name} {key}"].to_numpy() for key in ("quality", "filter"))
    below = np.array([quality[rate >= own].max() for own in rate]) - quality
    return int((below <= below[wanted].max()).sum())


def _front(table: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    return non_dominated(table[[f"{name} quality", f"{name} filter"]].to_numpy(dtype=np.float64))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--space", type=Path, default=SPACE, metavar="FILE", help="the experiment")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table that is continued")
    parser.add_argument("--search", type=Path, metavar="DIR", help="a finished search of this experiment")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes of the experiment")
    parser.add_argument("--configurations", type=int, default=24, metavar="N", help="to measure in all")
    parser.add_argument("--minutes", type=float, default=4.0, metavar="M", help="CPU minutes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
