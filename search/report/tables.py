"""The tables of the front and the baselines."""

from collections.abc import Sequence

from etarec.metrics import COST, COSTS, MAIN_METRICS, QUALITY_METRICS, SECONDS, label
from search import baselines
from search.numbers import p_value, percent, score, seconds, signed, spread
from search.report.answer import Answer
from search.report.cells import Cell, Column, Line, Table, cell, cost_cell, parameter
from search.selection.differences import TO_ALL, TO_NONE, TO_RANDOM, Kind, difference_columns, interval_columns
from search.selection.judgement import Judgement
from search.selection.view import Row, Split, View

TO_WORDS: dict[Kind, str] = {TO_ALL: "Δ to all", TO_RANDOM: "Δ to random", TO_NONE: "Δ to none"}
_COST_WORDS = dict(zip(COSTS, ("shallow steps", "transitions per pass", "computing"), strict=True))
_SPLIT_TITLES: dict[Split, str] = {"valid": "valid", "test": "test"}


def front(answer: Answer) -> Table:
    """The front's points: the judgement on test, both objectives, computing, paired differences and parameters."""
    searched = [Column(name, name) for name in answer.run.parameters]
    kinds = _kinds(answer, answer.front)
    lines = []
    for row in answer.front:
        chosen = answer.chosen is not None and row["trial_id"] == answer.chosen["trial_id"]
        name = Cell(str(row["trial_id"]), row["trial_id"], ("chosen",) if chosen else ())
        values = [parameter(row, key) for key in answer.run.parameters]
        lines.append(Line([name, *_measured(answer, row, kinds), *values], chosen))
    return Table(
        "front", [Column("trial", "trial_id", words=True), *_measured_columns(answer, kinds), *searched], lines
    )


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
            cells += [cell(row, f"{split}_{name}", score) for name in metrics]
            cells += [cell(row, f"{split}_{name}", percent) for name in shares]
            cells += [cost_cell(row, split, name) for name in COSTS]
            cells += [cell(row, f"{split}_{name}", seconds) for name in _by_part()]
            cells.append(_gap(row, TO_ALL, View(split, beside)))
            lines.append(Line(cells))
    return Table("measurements", columns, lines)


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
    columns += [Column(_SPLIT_TITLES[split], f"{split}_{COST}", "cost") for split in _costed(answer)]
    if view.split == "valid":
        return columns
    columns += [Column(view.label, difference_columns(kind, view.metric)[0], TO_WORDS[kind]) for kind in kinds]
    return [Column("on test", "on_test", words=True), *columns]


def _costed(answer: Answer) -> list[Split]:
    """The splits on which the cost of serving was measured."""
    return [split for split in _splits(answer.view) if answer.run.front.get(f"{split}_{COST}") is not None]


def _measured(answer: Answer, row: Row, kinds: Sequence[Kind]) -> list[Cell]:
    view, splits = answer.view, _splits(answer.view)
    views = [View(split, view.metric) for split in splits]
    shares = [one.skipped(row) if one.measured(row) else None for one in views]
    cells = [Cell(percent(share), share) for share in shares]
    cells += [_quality(row, one) for one in views] + [cost_cell(row, view.split, "arithmetic")]
    cells += [cell(row, f"{split}_{COST}", percent) for split in _costed(answer)]
    if view.split == "valid":
        return cells
    return [_judged(answer, row), *cells, *(_gap(row, kind, view) for kind in kinds)]


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
    if judged.judgement is Judgement.UNKNOWN:
        group = row.get("group")
        return Cell("–", "", (f"see {group}",) if group and group != row["trial_id"] else ())
    notes = (f"by {judged.by}",) if judged.judgement is Judgement.BY_POINT else ()
    return Cell(str(judged.judgement), " ".join((str(judged.judgement), *notes)), notes)


def _baseline(name: str) -> Cell:
    return Cell(name, name, (baselines.description(name),))


def _folded_name(view: View, rows: Sequence[Row]) -> Cell:
    shares = spread(view.skipped(row) for row in rows)
    text = f"random, {len(rows)} rate{'s' * (len(rows) != 1)}"
    return Cell(text, text, (f"random skipping of {shares} of the passes",))


def _folded(answer: Answer, rows: Sequence[Row], kinds: Sequence[Kind]) -> list[Cell]:
    """The spread of each column over rows that are folded into one."""
    cells = [_spread(cells) for cells in zip(*(_measured(answer, row, kinds) for row in rows), strict=True)]
    words = dict.fromkeys(str(answer.judged[str(row["trial_id"])].judgement) for row in rows)
    return [Cell(", ".join(words)), *cells[1:]] if answer.view.split == "test" else cells


def _spread(cells: Sequence[Cell]) -> Cell:
    known = sorted((cell for cell in cells if isinstance(cell.value, float)), key=lambda cell: float(cell.value))
    if not known:
        return Cell("–")
    least, most = known[0].text, known[-1].text
    return Cell(least, None, (f"to {most}",) if most != least else ())


def _by_part() -> tuple[str, ...]:
    return (*SECONDS[1:], SECONDS[0])
