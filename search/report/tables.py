"""The report's tables as plain values and texts, which both templates show and the page sorts and copies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from etarec.metrics import COSTS, MAIN_METRICS, QUALITY_METRICS, SECONDS, label
from search import baselines
from search.numbers import correlation, p_value, percent, score, seconds, signed
from search.records import reason
from search.report import parameters
from search.report.answer import Answer, rows_of
from search.report.files import Run
from search.selection.differences import TO_ALL, TO_NONE, TO_RANDOM, Kind, difference_columns, interval_columns
from search.selection.judgement import Judgement
from search.selection.view import Row, Split, View

TO_WORDS: dict[Kind, str] = {TO_ALL: "Δ to all", TO_RANDOM: "Δ to random", TO_NONE: "Δ to none"}
_COST_WORDS = dict(zip(COSTS, ("shallow steps", "transitions per pass", "computing"), strict=True))
_SPLIT_TITLES: dict[Split, str] = {"valid": "valid", "test": "test"}


@dataclass(frozen=True)
class Column:
    """A column: its title, the title over it and its neighbours, and its name in a copied table."""

    title: str
    name: str
    group: str = ""
    words: bool = False  # aligned to the left

    @property
    def full(self) -> str:
        return f"{self.title} {self.group}".strip() if self.title != self.group else self.title


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value that is sorted and copied, and small lines below the text."""

    text: str
    value: Any = None
    notes: tuple[str, ...] = ()

    @property
    def flat(self) -> str:
        """Text and notes in one line."""
        return f"{self.text} ({'; '.join(self.notes)})" if self.notes else self.text


@dataclass(frozen=True)
class Line:
    """A row of a table; a folded one is hidden until it is asked for, and a summary stands for the folded ones."""

    cells: Sequence[Cell]
    chosen: bool = False
    folded: bool = False
    summary: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report. `name` is its anchor in the page and its label in LaTeX."""

    name: str
    columns: Sequence[Column]
    lines: Sequence[Line] = field(default_factory=list)

    @property
    def grouped(self) -> list[tuple[str, int]]:
        """The titles over neighbouring columns, and the numbers of columns below them."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def front(answer: Answer) -> Table:
    """The front's points: parameters, both objectives, computing, paired differences and the judgement on test."""
    named = [Column("trial", "trial_id", words=True), *(Column(name, name) for name in answer.run.parameters)]
    kinds = _kinds(answer, answer.front)
    lines = []
    for row in answer.front:
        chosen = answer.chosen is not None and row["trial_id"] == answer.chosen["trial_id"]
        name = Cell(str(row["trial_id"]), row["trial_id"], ("chosen",) if chosen else ())
        searched = [_parameter(row, key) for key in answer.run.parameters]
        lines.append(Line([name, *searched, *_measured(answer, row, kinds)], chosen))
    return Table("front", [*named, *_measured_columns(answer, kinds)], lines)


def fixed(answer: Answer) -> Table:
    """The baselines, judged as the front is. Those at random along the front are folded into one line."""
    kinds: tuple[Kind, ...] = (TO_ALL, TO_NONE)
    columns = [Column("baseline", "baseline", words=True), *_measured_columns(answer, kinds)]
    along = answer.along_front
    lines = [
        Line([_baseline(str(row["trial_id"])), *_measured(answer, row, kinds)], folded=row in along)
        for row in answer.fixed
    ]
    if along:
        first = next(place for place, line in enumerate(lines) if line.folded)
        lines.insert(first, Line([_folded_name(answer.view, along), *_folded(answer, along, kinds)], summary=True))
    return Table("baselines", columns, lines)


def measurements(answer: Answer) -> Table:
    """The front's other measurements on both splits."""
    run, splits = answer.run, _splits(answer.view)
    metrics = [metric for metric in QUALITY_METRICS if metric != run.quality]
    shares = ["filter_rate", *run.filters]
    columns = [Column("trial", "trial_id", words=True), Column("on", "split", words=True)]
    columns += [Column(label(name), name) for name in [*metrics, *shares]]
    columns += [Column(_COST_WORDS[name], name) for name in COSTS]
    columns += [Column(f"{name.removesuffix('_seconds').replace('seconds', 'total')} s", name) for name in _by_part()]
    beside = next(metric for metric in MAIN_METRICS if metric != run.quality)
    columns.append(Column(label(beside), f"delta_{beside}", "Δ to all"))
    lines = []
    for row in answer.front:
        for split in splits:
            cells = [Cell(str(row["trial_id"]), row["trial_id"]), Cell(_SPLIT_TITLES[split], split)]
            cells += [_cell(row, f"{split}_{name}", score) for name in metrics]
            cells += [_cell(row, f"{split}_{name}", percent) for name in shares]
            cells += [_cost(row, split, name) for name in COSTS]
            cells += [_cell(row, f"{split}_{name}", seconds) for name in _by_part()]
            cells.append(_gap(row, TO_ALL, View(split, beside)))
            lines.append(Line(cells))
    return Table("measurements", columns, lines)


def trials(run: Run) -> Table:
    """All trials on validation, failed ones included."""
    columns = [Column("trial", "trial_id", words=True), Column("state", "state", words=True)]
    columns += [Column(name, name) for name in run.parameters]
    columns += [
        Column(label(run.quality), run.quality),
        Column("skipped", "skipped"),
        Column("computing", "arithmetic"),
    ]
    columns += [Column("seconds", "seconds"), Column("MLflow run", "mlflow_run_id", words=True)]
    lines = []
    for row in rows_of(run.trials):
        place = {f"valid_{name}": value for name, value in row.items()}
        view = View("valid", run.quality)
        skipped = view.skipped(place) if view.measured(place) else None
        cells = [Cell(str(row["trial_id"]), row["trial_id"]), Cell(str(row["state"]), row["state"])]
        cells += [_parameter(row, name) for name in run.parameters]
        cells += [_cell(row, run.quality, score), Cell(percent(skipped), skipped), _cost(place, "valid", "arithmetic")]
        cells += [
            _cell(row, "seconds", seconds),
            Cell(str(row.get("mlflow_run_id") or "")[:8], row.get("mlflow_run_id")),
        ]
        lines.append(Line(cells))
    return Table("trials", columns, lines)


def effects(run: Run) -> Table:
    """Each searched parameter, its range and its rank correlation with both objectives."""
    columns = [
        Column("parameter", "parameter", words=True),
        Column("searched", "searched", words=True),
        Column(label(run.quality), f"spearman_{run.quality}", "Spearman with"),
        Column("skipped", "spearman_filter_rate", "Spearman with"),
    ]
    lines = []
    for effect in parameters.effects(run):
        words = [Cell(effect[name], effect[name]) for name in ("name", "range")]
        ranks = [Cell(correlation(effect[name]), effect[name]) for name in ("quality", "rate")]
        lines.append(Line([*words, *ranks]))
    return Table("parameters", columns, lines)


def failures(run: Run) -> Table:
    """The trials without a result, grouped by state and reason."""
    names = ("state", "reason", "trials")
    ended = run.trials[run.trials["state"].isin(["FAILED", "KILLED"])]
    reasons = ended["error"].map(reason) if "error" in ended else pd.Series("no reason recorded", index=ended.index)
    groups = ended.groupby([ended["state"], reasons], sort=False)["trial_id"]
    texts = [(str(state), str(cause), ", ".join(ids)) for (state, cause), ids in groups]
    lines = [Line([Cell(text, text) for text in line]) for line in texts]
    return Table("failures", [Column(name, name, words=True) for name in names], lines)


def _parameter(row: Row, name: str) -> Cell:
    """A parameter, where a file's 50.0 of an integer field is 50."""
    value = row.get(name)
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    return Cell(parameters.text(name, value), plain)


def _kinds(answer: Answer, rows: Sequence[Row]) -> tuple[Kind, ...]:
    """The differences to show: to random skipping only where it was measured around a row."""
    known = any(answer.view.recorded(row, TO_RANDOM) for row in rows)
    return (TO_ALL, TO_RANDOM, TO_NONE) if known else (TO_ALL, TO_NONE)


def _splits(view: View) -> tuple[Split, ...]:
    return ("valid", "test") if view.split == "test" else ("valid",)


def _measured_columns(answer: Answer, kinds: Sequence[Kind]) -> list[Column]:
    view, splits = answer.view, _splits(answer.view)
    columns = [Column(_SPLIT_TITLES[split], f"{split}_skipped", "skipped") for split in splits]
    columns += [Column(_SPLIT_TITLES[split], f"{split}_{view.metric}", view.label) for split in splits]
    columns += [Column(_SPLIT_TITLES[view.split], f"{view.split}_arithmetic", "computing")]
    if view.split == "valid":
        return columns
    columns += [Column(view.label, difference_columns(kind, view.metric)[0], TO_WORDS[kind]) for kind in kinds]
    return [*columns, Column("on test", "on_test", words=True)]


def _measured(answer: Answer, row: Row, kinds: Sequence[Kind]) -> list[Cell]:
    view, splits = answer.view, _splits(answer.view)
    views = [View(split, view.metric) for split in splits]
    shares = [one.skipped(row) if one.measured(row) else None for one in views]
    cells = [Cell(percent(share), share) for share in shares]
    cells += [_quality(row, one) for one in views] + [_cost(row, view.split, "arithmetic")]
    if view.split == "valid":
        return cells
    return [*cells, *(_gap(row, kind, view) for kind in kinds), _judged(answer, row)]


def _quality(row: Row, view: View) -> Cell:
    low, high = (row.get(column) for column in interval_columns(view.metric))
    notes = (f"{score(low)} to {score(high)}",) if view.split == "test" and low is not None else ()
    return Cell(score(row.get(view.column)), row.get(view.column), notes)


def _gap(row: Row, kind: Kind, view: View) -> Cell:
    """A difference with its interval and the p-value after Holm's correction; a dash of a row to itself."""
    gap = view.recorded(row, kind)
    itself = {TO_ALL: baselines.ALL, TO_NONE: baselines.NONE}.get(kind) == row["trial_id"]
    if gap is None or itself:
        return Cell("–")
    notes = [f"{signed(gap.low)} to {signed(gap.high)}"] if gap.measured else []
    notes += [f"p {p_value(gap.p_holm)}"] if gap.p_holm is not None else []
    return Cell(signed(gap.value), gap.value, tuple(notes))


def _judged(answer: Answer, row: Row) -> Cell:
    judged = answer.judged[str(row["trial_id"])]
    text = f"beaten by {judged.by}" if judged.judgement is Judgement.BY_POINT else str(judged.judgement)
    return Cell(text, text)


def _baseline(name: str) -> Cell:
    return Cell(name, name, (baselines.description(name),))


def _folded_name(view: View, rows: Sequence[Row]) -> Cell:
    shares = [view.skipped(row) for row in rows]
    text = f"random, {len(rows)} rate{'s' * (len(rows) != 1)}"
    return Cell(text, text, (f"random skipping of {min(shares):.0%} to {max(shares):.0%} of the passes",))


def _folded(answer: Answer, rows: Sequence[Row], kinds: Sequence[Kind]) -> list[Cell]:
    """The spread of each column over rows that are folded into one."""
    cells = [_spread(cells) for cells in zip(*(_measured(answer, row, kinds) for row in rows), strict=True)]
    words = dict.fromkeys(str(answer.judged[str(row["trial_id"])].judgement) for row in rows)
    return [*cells[:-1], Cell(", ".join(words))] if answer.view.split == "test" else cells


def _spread(cells: Sequence[Cell]) -> Cell:
    known = sorted((cell for cell in cells if isinstance(cell.value, float)), key=lambda cell: float(cell.value))
    if not known:
        return Cell("–")
    least, most = known[0].text, known[-1].text
    return Cell(least, None, (f"to {most}",) if most != least else ())


def _cost(row: Row, split: Split, name: str) -> Cell:
    form = percent if name != "transitions_per_pass" else seconds
    return _cell(row, f"{split}_{name}", form)


def _cell(row: Row, column: str, form: Any) -> Cell:
    return Cell(form(row.get(column)), row.get(column))


def _by_part() -> tuple[str, ...]:
    return (*SECONDS[1:], SECONDS[0])
