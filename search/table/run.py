"""One table from its spec: train each model once, measure its rows on validation and on test, and write the files.

Nothing is selected here, so the rows may read test. Checkpoints are cached and measurements kept, so that the same
command continues an interrupted table.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from etarec import data
from etarec.command_line import naming, short_path
from etarec.config import ModelConfig, SplitName, TrainConfig
from etarec.data import Interactions
from etarec.disk import write_whole
from etarec.evaluate import Measurement
from etarec.metrics import labelled
from etarec.train import load_or_train, progress
from search import rehearsal
from search.console import Console, at_least_wide
from search.records import csv_text
from search.records.provenance import Provenance, about_checkpoint, about_data
from search.running import runner
from search.running.plan import Plan, trial_bytes
from search.spec import Spec, class_paths, own_code, to_yaml
from search.spec.table_rows import TableConfig
from search.subject import Job, Recommender
from search.table import measured, tabulate, text
from search.table.rows import Row, by_checkpoint, rows_of, table_of
from search.table.tabulate import REHEARSAL, Cell

SPLITS: tuple[SplitName, ...] = ("valid", "test")
LOG_WIDTH = 220  # columns of a table in a log file, which has no edge to break it at

Pairs = list[tuple[Row, Cell]]


@dataclass
class TableRun:
    """The requested table. `names` and `seeds` replace all rows and their seeds; `file` is for messages."""

    spec: Spec
    directory: Path
    address: str | None = None
    names: Sequence[str] = ()
    seeds: tuple[int, ...] = ()
    file: Path | None = None
    console: Console = field(default_factory=Console)
    provenance: Provenance = field(default_factory=Provenance)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)


def make(run: TableRun) -> None:
    """Measure the table and write its files, which are brought up to date after every checkpoint.

    Raises UserError, before anything is trained, for rows that do not exist or do not fit the data.
    """
    with naming(run.file):
        table = table_of(run.spec)
    with run.console.phase("loading"):
        interactions = data.load(run.spec.data)
    run.console.data(run.spec, interactions)
    rows = rows_of(run.spec, interactions.n_items - 1, run.names, run.seeds, run.file)
    with naming(run.file):
        for order in {row.order for row in rows}:
            data.stream(interactions, "valid", order, run.spec.data.order_seed)
    held_out = _held_out(run, interactions)
    run.provenance.data = about_data(run.spec, interactions)
    run.provenance.own_code = own_code.sources(run.spec)
    published = _is_published(table, interactions)
    run.directory.mkdir(parents=True, exist_ok=True)
    write_whole(run.directory / "spec.yaml", to_yaml(run.spec))
    cells: list[Cell] = []
    for more in _cells(run, rows, interactions, held_out):
        cells += more
        _write(run, rows, cells, published, compare=False)
    _write(run, rows, cells, published, compare=True)
    run.console.entry("table", short_path(run.directory / "table.md"))


def _held_out(run: TableRun, interactions: Interactions) -> Interactions | None:
    """The split of a rehearsal if the file gives a share. `auto` gives none, because it doubles the training."""
    if run.spec.data.rehearsal_share == "auto":
        return None
    with naming(run.file):
        return rehearsal.held_out(run.spec, interactions)


def _is_published(table: TableConfig, data: Interactions) -> bool:
    """Whether the published numbers are about these data."""
    size = {"users": data.n_users, "items": data.n_items - 1}
    return table.published_on is not None and asdict(table.published_on) == size


def _cells(
    run: TableRun, rows: list[Row], interactions: Interactions, held_out: Interactions | None
) -> Iterator[list[Cell]]:
    """The cells of one checkpoint after another, seed by seed, so that the table of one seed is complete early."""
    groups = by_checkpoint(rows)
    with ExitStack() as stack:
        machine = _Machine(run, stack)
        for number, ((model, train), members) in enumerate(groups.items(), start=1):
            run.console.line(f"checkpoint {number} of {len(groups)}: {model.label}, seed {train.seed}")
            subject = _subject(run, interactions, model, train, [row.name for row in members])
            trained = subject.checkpoint
            cells = [Cell(row.name, train.seed, trained.epochs, trained.sha256) for row in members]
            pairs = list(zip(members, cells, strict=True))
            for split in SPLITS:
                _measure_orders(run, machine, subject, pairs, split, column=split)
            if held_out:
                with run.provenance.timed("train"):
                    rehearsing, _ = rehearsal.rehearsing(subject, held_out, run.console)
                _measure_orders(run, machine, rehearsing, pairs, "valid", column=REHEARSAL)
            yield cells


def _subject(
    run: TableRun, interactions: Interactions, model: ModelConfig, train: TrainConfig, rows: list[str]
) -> Recommender:
    """The data with the checkpoint of these rows, which is trained if it is not in the cache."""
    with run.provenance.timed("train"), progress(train, run.console) as watch:
        trained, path = load_or_train(interactions, model, train, watch)
    run.checkpoints.append({"rows": rows, "seed": train.seed, **about_checkpoint(trained, path)})
    return Recommender(interactions, trained, run.spec.data.order, run.spec.data.order_seed, path.parent)


class _Machine:
    """Ray, started by the first checkpoint that has something to measure."""

    def __init__(self, run: TableRun, stack: ExitStack):
        self._run, self._stack = run, stack
        self._plan: Plan | None = None

    def measure(
        self, subject: Recommender, jobs: list[Job], split: SplitName, done: Callable[[], None]
    ) -> Iterator[Measurement | None]:
        run = self._run
        if self._plan is None:
            search, need, classes = run.spec.search, trial_bytes(subject), class_paths(run.spec)
            cluster = runner.cluster(search, run.address, need, run.console.warn, classes)
            self._plan = self._stack.enter_context(cluster)
        on_test = split == "test"
        held = subject if on_test else subject.without_test()
        return runner.measure_all(held, jobs, self._plan, run.console.warn, on_test=on_test, done=done)


def _measure_orders(
    run: TableRun, machine: _Machine, subject: Recommender, pairs: Pairs, split: SplitName, column: str
) -> None:
    """`_measure` the rows of each order of the stream."""
    for order in dict.fromkeys(row.order for row, _ in pairs):
        own = [pair for pair in pairs if pair[0].order == order]
        _measure(run, machine, replace(subject, order=order), own, split, column)


def _measure(
    run: TableRun, machine: _Machine, subject: Recommender, pairs: Pairs, split: SplitName, column: str
) -> None:
    """Fill the cells' `column` with measurements on `split`: kept ones are read, the others are made and kept."""
    folder = run.directory / "measured"
    jobs = {row.name: Job(row.adapt, cell.seed) for row, cell in pairs}
    names = {row: measured.name_of(subject, job, split) for row, job in jobs.items()}
    found = {name: measured.find(folder, name) for name in names.values()}
    missing = {name: row for row, name in names.items() if found[name] is None}  # rows that are equal count once
    with run.provenance.timed("measure"), run.console.phase(column, len(missing)) as phase:
        todo = [jobs[row] for row in missing.values()]
        fresh = machine.measure(subject, todo, split, phase.advance) if todo else ()
        for (name, label), measurement in zip(missing.items(), fresh, strict=True):
            if measurement is None:
                run.console.warn(f"{label}: nothing was measured on {split}")
                continue
            found[name] = measurement
            measured.keep(folder, name, measurement, _about(subject, jobs[label], label, split, measurement))
            run.console.line(_line(label, jobs[label].seed, column, measurement))
    for row, cell in pairs:
        there = cell.measured[column] = found[names[row.name]]
        if there is not None and row.name not in missing.values():
            run.console.line(f"{_line(row.name, cell.seed, column, there)}, measured earlier")


def _about(subject: Recommender, job: Job, row: str, split: SplitName, measurement: Measurement) -> dict[str, Any]:
    """The description of a kept measurement, for people who read its .json."""
    sources = {"checkpoint": subject.checkpoint.sha256, "data": subject.data.sha256}
    about = {"row": row, "split": split, "seed": job.seed, **sources, "adapt": vars(job.config)}
    return {**about, "metrics": measurement.metrics()}


def _line(row: str, seed: int, column: str, measurement: Measurement) -> str:
    metrics = measurement.metrics()
    return (
        f"  {row}, seed {seed}, {column}: {labelled(metrics)}, filter rate {metrics['filter_rate']:.1%}, "
        f"{metrics['seconds']:.1f} s"
    )


def _write(run: TableRun, rows: list[Row], cells: list[Cell], published: bool, *, compare: bool) -> None:
    """Write all files. Comparisons cost seconds, so they are made at the end only."""
    search, directory = run.spec.search, run.directory
    order = {row.name: place for place, row in enumerate(rows)}
    seeds = tabulate.by_seed(sorted(cells, key=lambda cell: (order[cell.row], cell.seed)))
    table = tabulate.by_row([row for row in rows if row.name in set(seeds["row"])], seeds, published=published)
    compared = tabulate.comparisons(rows, cells if compare else [], search.bootstrap_replicates, search.seed)
    for name, frame in (("seeds", seeds), ("table", table), ("comparisons", compared)):
        write_whole(directory / f"{name}.csv", csv_text.of_frame(frame))
    write_whole(directory / "table.md", text.markdown(run.spec.name, table, compared))
    document = {**run.provenance.document(), "checkpoint": run.checkpoints}
    write_whole(directory / "provenance.json", json.dumps(document, indent=2))
    out = run.console.out
    for drawn in text.terminal(table, compared) if compare else ():
        at_least_wide(out).print(drawn, width=None if out.is_terminal else LOG_WIDTH)
