"""Renders compare.html and compare.csv from the files of several searches."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from etarec.command_line import is_disk_fault
from etarec.config import UserError
from etarec.disk import write_whole
from search.compare import plots, tables
from search.compare.searches import Search, comparable, load_all, repeated
from search.records import csv_text
from search.report import templates
from search.report.cells import Table
from search.report.plots import plotly_script

OUTPUTS = ("compare.html", "compare.csv")


def render(directories: list[Path], out: Path) -> None:
    """Write OUTPUTS into the folder `out`, which is made if it is missing.

    Raises UserError where a folder holds no readable search, or where the page cannot be written, and OSError where the
    disk is at fault.
    """
    searches = load_all(directories)
    verdicts = tables.verdicts(searches)
    page = templates.filled("compare.html.j2", _context(searches, verdicts), Path(__file__).parent)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "compare.html", page)
        write_whole(out / "compare.csv", as_csv(verdicts))
    except OSError as error:
        if is_disk_fault(error):
            raise
        raise UserError(f"{out}: cannot write the comparison: {error.strerror}") from error


def as_csv(table: Table) -> str:
    """The values of a table, as the page copies them."""
    names = [column.name for column in table.columns]
    return csv_text.of_rows([names, *([cell.value for cell in line.cells] for line in table.lines)])


def _context(searches: list[Search], verdicts: Table) -> dict[str, Any]:
    scale = plots.Scale(searches)
    groups = [
        (", ".join(search.name for search in group), Markup(plots.attainment(group, scale, f"attainment-{number}")))
        for number, group in enumerate(repeated(searches))
    ]
    return {
        "plotly": Markup(plotly_script()),
        "view": searches[0].view,
        "names": [search.name for search in searches],
        "relative": scale.relative,
        "others": [
            (search.name, " and ".join(search.other_objectives)) for search in searches if search.other_objectives
        ],
        "comparable": comparable(searches),
        "verdicts": verdicts,
        "settings": tables.settings(searches),
        "fronts": Markup(plots.fronts(searches, scale)),
        "areas": Markup(plots.areas(searches)),
        "groups": groups,
    }
