"""The tables of a comparison: the verdicts with the fronts' sizes, and the settings that differ."""

from typing import Any

from search.compare.searches import Search, differing
from search.numbers import percent, score
from search.report.cells import Cell, Column, Line, Table

_VERDICTS = {
    "use_chosen": "use the chosen configuration",
    "skip_at_random": "skip at random",
    "adapt_on_all": "adapt on every sample",
    "do_not_adapt": "do not adapt",
    "not_settled": "not settled",
}


def verdicts(searches: list[Search]) -> Table:
    """One line per search: the verdict, the chosen point, both ends, and the size of the front on validation."""
    view = searches[0].view
    columns = [
        Column("search", "search", words=True),
        Column("verdict", "verdict", words=True),
        Column("chosen", "chosen", words=True),
        Column("skipped", "skipped", view.word),
        Column(view.label, view.metric, view.word),
        Column("none", "none", view.word),
        Column("all", "all", view.word),
        Column("area", "area_share", "validation"),
        Column("against random", "gain_over_dice", "validation"),
        Column("hypervolume", "hypervolume", "validation"),
        Column("trials", "trials"),
    ]
    return Table("verdicts", columns, [_line(search) for search in searches])


def settings(searches: list[Search]) -> Table:
    """The settings that are not the same in all searches, a line each."""
    columns = [Column("setting", "setting", words=True)]
    columns += [Column(search.name, search.name, words=True) for search in searches]
    lines = []
    for name in differing(searches):
        values = [_setting(search.settings.get(name)) for search in searches]
        lines.append(Line([Cell(name, name), *(Cell(value, value) for value in values)]))
    return Table("settings", columns, lines)


def _line(search: Search) -> Line:
    view, answer = search.view, search.answer
    about, verdict = answer.run.provenance.get("search") or {}, str(answer.advice.verdict)
    chosen = answer.chosen if answer.chosen is not None and view.measured(answer.chosen) else None
    none, everything = search.anchors or (None, None)
    cells = [
        Cell(search.name, search.name),
        Cell(_VERDICTS[verdict], verdict, (answer.advice.title,)),
        Cell("–", "") if chosen is None else Cell(str(chosen["trial_id"]), chosen["trial_id"]),
        _number(None if chosen is None else view.skipped(chosen), percent),
        _number(None if chosen is None else view.quality(chosen), score),
        _number(none, score),
        _number(everything, score),
        _number(about.get("area_share"), percent, _counted(search)),
        _number(about.get("gain_over_dice"), percent),
        _number(about.get("hypervolume"), score),
        Cell(str(len(answer.run.finished)), len(answer.run.finished)),
    ]
    return Line(cells)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return "null" if value is None else str(value)


def _counted(search: Search) -> tuple[str, ...]:
    """A note on the objectives that the area takes into account besides the quality and the skipped passes."""
    return (f"with {' and '.join(search.other_objectives)}",) if search.other_objectives else ()


def _number(value: Any, form: Any, notes: tuple[str, ...] = ()) -> Cell:
    return Cell("–", "") if not isinstance(value, int | float) else Cell(form(value), value, notes)
