"""One table from its spec: trains each model once, measures its rows on validation and on test, writes what it knows.

Nothing is selected here, so test can be read row by row. Checkpoints come from the cache, measurements that were kept
from their folder: an interrupted table goes on where it was.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from etarec import data
from etarec.config import ModelConfig, SplitName, TrainConfig, UserError
from etarec.data import Interactions
from etarec.disk import write_whole
from etarec.evaluate import Measurement
from etarec.train import load_or_train, progress
from search.console import Console
from search.console import shown as short
from search.provenance import Provenance, about_checkpoint, about_data
from search.running import runner
from search.running.plan import Plan, trial_bytes
from search.spec import Spec, baseline_on, to_yaml
from search.subject import Job, Recommender
from search.table import measured as kept
from search.table import tabulate
from search.table.tabulate import Cell, Row
from search.table_rows import RowConfig, TableConfig

SPLITS: tuple[SplitName, ...] = ("valid", "test")
WIDEST = 220  # a log file has no edge to break a table at


@dataclass
class Reproduction:
    """What a run of the program is about. names, seeds: of the command line, instead of all rows and their seeds."""

    spec: Spec
    directory: Path
    address: str | None = None
    names: Sequence[str] = ()
    seeds: tuple[int, ...] = ()
    file: Path | None = None
    console: Console = field(default_factory=Console)
    provenance: Provenance = field(default_factory=Provenance)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.provenance.seconds[step] = self.provenance.seconds.get(step, 0.0) + time.perf_counter() - begin


def make(run: Reproduction) -> None:
    """Measures the table and writes its files; what is known so far is written after every checkpoint.

    Raises UserError for rows that are not there or do not fit the data, before anything is trained.
    """
    table = _table(run)
    interactions = data.load(run.spec.data)
    run.console.data(run.spec, interactions)
    rows = _rows(run, table, interactions.n_items - 1)
    run.provenance.data = about_data(run.spec, interactions)
    published = table.published_on is not None and asdict(table.published_on) == {
        "users": interactions.n_users,
        "items": interactions.n_items - 1,
    }
    run.directory.mkdir(parents=True, exist_ok=True)
    write_whole(run.directory / "spec.yaml", to_yaml(run.spec))
    cells: list[Cell] = []
    for measured in _cells(run, rows, interactions):
        cells += measured
        _write(run, rows, cells, published, compare=False)
    _write(run, rows, cells, published, compare=True)
    run.console.line(f"table       {short(run.directory / 'table.md')}")


def _table(run: Reproduction) -> TableConfig:
    if run.spec.table is None:
        raise UserError(f"{run.file}: table: missing, expected its rows")
    if run.spec.checkpoint is not None:
        raise UserError(f"{run.file}: checkpoint: a table trains its models itself; give `model` and `train` instead")
    return run.spec.table


def _rows(run: Reproduction, table: TableConfig, n_items: int) -> list[Row]:
    """The rows that were asked for, whole. Raises UserError for a name or a K that is not there."""
    known = [row.name for row in table.rows]
    for name in run.names:
        if name not in known:
            raise UserError(f"--rows {name}: no such row in {run.file}; expected one of: {', '.join(known)}")
    rows = [_row(run.spec, row, run.seeds or row.seeds or table.seeds, n_items) for row in table.rows]
    for number, row in enumerate(rows):
        if row.adapt.gate == "eta" and (row.adapt.top_k or 0) > n_items:
            raise UserError(
                f"{run.file}: table.rows[{number}].adapt.top_k: given {row.adapt.top_k}, expected at most {n_items}, "
                "the number of items in the catalogue"
            )
    return [row for row in rows if not run.names or row.name in run.names]


def _row(spec: Spec, row: RowConfig, seeds: tuple[int, ...], n_items: int) -> Row:
    adapt = row.adapt or spec.adapt
    if row.baseline is not None:
        adapt = baseline_on(adapt, row.baseline, n_items=n_items)
    train = row.train or spec.train
    return Row(row.name, row.model or spec.model, train, adapt, seeds, row.against, row.published)


def _cells(run: Reproduction, rows: list[Row], interactions: Interactions) -> Iterator[list[Cell]]:
    """The cells of one checkpoint after another, seed by seed, so that a whole table of one seed is there early."""
    groups = _groups(rows)
    with ExitStack() as stack:
        machine = _Machine(run, stack)
        for number, ((model, train), members) in enumerate(groups.items(), start=1):
            run.console.line(f"checkpoint {number} of {len(groups)}: {model.name}, seed {train.seed}")
            with run.timed("train"), progress(train, run.console.out) as watch:
                trained, path = load_or_train(interactions, model, train, watch)
            names = [row.name for row in members]
            run.checkpoints.append({"rows": names, "seed": train.seed, **about_checkpoint(trained, path)})
            order = run.spec.data.order, run.spec.data.order_seed
            subject = Recommender(interactions, trained, *order, path.parent)
            cells = [Cell(row.name, train.seed, trained.epochs, trained.sha256) for row in members]
            both = list(zip(members, cells, strict=True))
            for split in SPLITS:
                _measure(run, machine, subject, both, split)
            if isinstance(share := run.spec.data.rehearsal_share, float):  # asked for: it trains a model once more
                _measure(run, machine, _rehearsal(run, subject, share), both, "valid", tabulate.REHEARSAL)
            yield cells


def _rehearsal(run: Reproduction, subject: Recommender, share: float) -> Recommender:
    """What a search of these settings would measure its trials on, see `data.rehearsal`."""
    held_out, train = data.rehearsal(subject.data, run.spec.data, share), subject.checkpoint.train
    with run.timed("train"), progress(train, run.console.out) as watch:
        trained, _ = load_or_train(held_out, subject.checkpoint.model, train, watch)
    return replace(subject, data=held_out, checkpoint=trained)


def _groups(rows: list[Row]) -> dict[tuple[ModelConfig, TrainConfig], list[Row]]:
    """Which rows share which checkpoint, in the order of their first row, all of the first seed first."""
    groups: dict[tuple[ModelConfig, TrainConfig], list[Row]] = {}
    for place in range(max(len(row.seeds) for row in rows)):
        for row in (row for row in rows if place < len(row.seeds)):
            groups.setdefault((row.model, replace(row.train, seed=row.seeds[place])), []).append(row)
    return groups


class _Machine:
    """Ray, started by the first checkpoint that has something to measure."""

    def __init__(self, run: Reproduction, stack: ExitStack):
        self._run, self._stack = run, stack
        self._plan: Plan | None = None

    def measure(self, subject: Recommender, jobs: list[Job], split: SplitName) -> Iterator[Measurement | None]:
        run = self._run
        if self._plan is None:
            cluster = runner.cluster(run.spec.search, run.address, trial_bytes(subject), run.console.warn)
            self._plan = self._stack.enter_context(cluster)
        on_test = split == "test"
        held = subject if on_test else subject.without_test()
        return runner.measure_all(held, jobs, self._plan, run.console.warn, on_test=on_test)


def _measure(
    run: Reproduction,
    machine: _Machine,
    subject: Recommender,
    members: list[tuple[Row, Cell]],
    split: SplitName,
    column: str = "",
) -> None:
    """Fills the cells' measurements on one split: those that were kept are read, the others made and kept.

    column: what the table calls it, if not by the split's name.
    """
    column = column or split
    folder = run.directory / "measured"
    jobs = {row.name: Job(row.adapt, cell.seed) for row, cell in members}
    names = {row: kept.name_of(subject, job, split) for row, job in jobs.items()}
    found = {name: kept.find(folder, name) for name in names.values()}
    wanted = {name: row for row, name in names.items() if found[name] is None}
    with run.timed("measure"), run.console.out.status(f"  measuring {len(wanted)} on {column}"):
        fresh = machine.measure(subject, [jobs[row] for row in wanted.values()], split) if wanted else ()
        for (name, label), measurement in zip(wanted.items(), fresh, strict=True):
            if measurement is None:
                run.console.warn(f"{label}: nothing was measured on {split}")
                continue
            job, sources = jobs[label], {"checkpoint": subject.checkpoint.sha256, "data": subject.data.sha256}
            about = {"row": label, "split": split, "seed": job.seed, **sources, "adapt": vars(job.config)}
            kept.keep(folder, name, measurement, {**about, "metrics": measurement.metrics()})
            found[name] = measurement
            run.console.line(_line(members[0][1].seed, label, column, measurement))
    for row, cell in members:
        cell.measured[column] = found[names[row.name]]
        if (there := cell.measured[column]) is not None and row.name not in wanted.values():
            run.console.line(f"{_line(cell.seed, row.name, column, there)}, kept from before")


def _line(seed: int, row: str, split: str, measurement: Measurement) -> str:
    metrics = measurement.metrics()
    return (
        f"  {row}, seed {seed}, {split}: HR@10 {metrics['hr_at_10']:.4f}  NDCG@10 {metrics['ndcg_at_10']:.4f}"
        f"  filter rate {metrics['filter_rate']:.1%}  {metrics['seconds']:.1f} s"
    )


def _write(run: Reproduction, rows: list[Row], cells: list[Cell], published: bool, *, compare: bool) -> None:
    """All files, each whole or not at all. The comparisons are made at the end only: they cost seconds."""
    search, directory = run.spec.search, run.directory
    order = {row.name: place for place, row in enumerate(rows)}
    seeds = tabulate.by_seed(sorted(cells, key=lambda cell: (order[cell.row], cell.seed)))
    table = tabulate.by_row([row for row in rows if row.name in set(seeds["row"])], seeds, published=published)
    compared = tabulate.comparisons(rows, cells if compare else [], search.bootstrap_replicates, search.seed)
    for name, frame in (("seeds", seeds), ("table", table), ("comparisons", compared)):
        write_whole(directory / f"{name}.csv", frame.to_csv(index=False))
    write_whole(directory / "table.md", tabulate.markdown(run.spec.name, table, compared))
    document = {**run.provenance.document(), "checkpoint": run.checkpoints}
    write_whole(directory / "provenance.json", json.dumps(document, indent=2))
    for shown_table in tabulate.terminal(table, compared) if compare else ():
        run.console.out.print(shown_table, width=None if run.console.out.is_terminal else WIDEST)
