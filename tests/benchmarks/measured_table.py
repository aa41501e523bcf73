"""Real measurements of a spec's space, kept as a small table from which searches can be replayed.

    python -m tests.benchmarks.measured_table [--space FILE] [--out FILE] [--minutes M]

measures configurations spread evenly over the space, one after the other on one thread, for about M minutes of CPU
time, and adds them to the table. A row is on disk once it is measured, so a stop loses at most one. Trials see
validation or its rehearsal only, so the table does too.
"""

import argparse
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from etarec.config import AdaptConfig
from etarec.disk import write_whole
from search import prepare
from search.experiment import Experiment
from search.sampler.proposal import spread
from search.selection import anchors
from search.spec import Spec, load, trial_config, trial_seed
from search.spec.space import settled
from search.subject import Subject, measure_on_validation
from search.surrogate.cube import Cube
from tests.benchmarks.replay import KEPT, SPACE, TABLE

SEED = 0  # of the spread


def main() -> None:
    arguments = _parse()
    spec = load(arguments.space, arguments.set)
    with TemporaryDirectory() as folder:
        subject = prepare.prepare(Experiment(spec, Path(folder)))
        rows = [] if not arguments.out.exists() else pd.read_csv(arguments.out).to_dict("records")
        begin = time.process_time()
        for row in _rows(spec, subject.without_test(), subject.data.n_items - 1, len(rows)):
            rows.append(row)
            _write(pd.DataFrame(rows, columns=["name", *spec.space, *KEPT]), arguments.out)
            if time.process_time() - begin > 60 * arguments.minutes:
                break
    fixed = sum(isinstance(row.get("name"), str) for row in rows)
    print(f"{arguments.out}: {len(rows) - fixed} configurations and {fixed} anchors")


def _write(table: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    write_whole(file, gzip.compress(table.to_csv(index=False).encode(), mtime=0))


def _rows(spec: Spec, subject: Subject, n_items: int, skipped: int) -> Iterator[dict[str, Any]]:
    """Row after row of the table without end, from the one after `skipped` on; the anchors come first."""
    fixed, cube = list(anchors.configs(spec, n_items).items()), Cube(spec.space, spec.adapt)
    for name, config in fixed[skipped:]:
        yield {"name": name, **_metrics(spec, subject, config)}
    number = max(skipped - len(fixed), 0)
    while True:
        parameters = settled(spec.space, spec.adapt, spread(cube, number, SEED))
        yield {**parameters, **_metrics(spec, subject, trial_config(spec, parameters))}
        number += 1


def _metrics(spec: Spec, subject: Subject, config: AdaptConfig) -> dict[str, float]:
    metrics = measure_on_validation(subject, config, trial_seed(spec.search.seed, config), threads=1).metrics()
    return {name: round(metrics[name], 6) for name in KEPT}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.measured_table", description=__doc__)
    parser.add_argument("--space", type=Path, default=SPACE, metavar="FILE", help="the experiment")
    parser.add_argument("--out", type=Path, default=TABLE, metavar="FILE", help="the table that is continued")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes of the experiment")
    parser.add_argument("--minutes", type=float, default=15.0, metavar="M", help="CPU minutes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
