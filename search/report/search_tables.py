"""The tables about a search as a whole: its trials, parameters, failures and costs."""

import pandas as pd

from etarec.metrics import label
from search import baselines
from search.numbers import correlation, percent, score, seconds
from search.records.trial import reason
from search.report import parameters
from search.report.answer import Answer, rows_of
from search.report.cells import Cell, Column, Line, Table, cell, cost_cell, parameter
from search.report.files import Run
from search.report.importance import Importances, Share
from search.report.seconds import UNIT, compared, cost
from search.selection.view import View


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
        cells += [parameter(row, name) for name in run.parameters]
        cells += [
            cell(row, run.quality, score),
            Cell(percent(skipped), skipped),
            cost_cell(place, "valid", "arithmetic"),
        ]
        run_id = row.get("mlflow_run_id")
        cells += [cell(row, "seconds", seconds), Cell(str(run_id or "")[:8], run_id, address=run.run_address(run_id))]
        lines.append(Line(cells))
    return Table("trials", columns, lines)


def effects(run: Run, found: Importances) -> Table:
    """Each searched parameter, its range, its importance and its rank correlation with both objectives."""
    columns = [Column("parameter", "parameter", words=True), Column("searched", "searched", words=True)]
    titles = {run.quality: label(run.quality), "filter_rate": "skipped"}
    columns += [Column(title, f"importance_{name}", "importance for") for name, title in titles.items() if found]
    columns += [Column(title, f"spearman_{name}", "rank correlation with") for name, title in titles.items()]
    lines = []
    for effect in parameters.effects(run):
        words = [Cell(effect[name], effect[name]) for name in ("name", "range")]
        shares = [_importance(found[name][effect["name"]]) for name in titles if found]
        ranks = [Cell(correlation(effect[name]), effect[name]) for name in ("quality", "rate")]
        lines.append(Line([*words, *shares, *ranks]))
    return Table("parameters", columns, lines)


def _importance(share: Share) -> Cell:
    return Cell(percent(share.value, 0), share.value, (f"{percent(share.low, 0)} to {percent(share.high, 0)}",))


def costs(answer: Answer, noise: float | None) -> Table:
    """CPU milliseconds per 1,000 samples of the baselines and the chosen point, in all and relative to adapting on all.

    Args:
        answer: of the search.
        noise: `search.report.seconds.spread` of its measurements.
    """
    split, samples = answer.view.split, answer.run.samples(answer.view.split)
    rows = [row for row in answer.fixed if row not in answer.along_front] + ([answer.chosen] if answer.chosen else [])
    found = {str(row["trial_id"]): one for row in rows if (one := cost(row, split, samples))}
    everything, longest = found.get(baselines.ALL), max((one.total for one in found.values()), default=0.0)
    columns = [
        Column("configuration", "configuration", words=True),
        Column("share of the costliest", "bar", words=True),
    ]
    columns += [Column(name, f"{name}_ms", UNIT) for name in ("forward", "gate", "adaptation")]
    columns += [Column("together", "ms", UNIT), Column("against adapting on all", "compared")]
    lines = []
    for name, one in found.items():
        chosen = answer.chosen is not None and name == answer.chosen["trial_id"]
        parts = tuple((part, 100 * value / longest if longest else 0.0) for part, value in one._asdict().items())
        relative = compared(one, everything, noise) if everything and name != baselines.ALL else "–"
        cells = [Cell(name, name, ("chosen",) if chosen else ()), Cell("", None, bar=parts)]
        cells += [Cell(seconds(value), value) for value in (*one, one.total)]
        lines.append(Line([*cells, Cell(relative, relative)], chosen))
    return Table("seconds", columns, lines)


def failures(run: Run) -> Table:
    """The trials without a result, grouped by state and reason."""
    names = ("state", "reason", "trials")
    ended = run.trials[run.trials["state"].isin(["FAILED", "KILLED"])]
    reasons = ended["error"].map(reason) if "error" in ended else pd.Series("no reason recorded", index=ended.index)
    groups = ended.groupby([ended["state"], reasons], sort=False)["trial_id"]
    texts = [(str(state), str(cause), ", ".join(ids)) for (state, cause), ids in groups]
    lines = [Line([Cell(text, text) for text in line]) for line in texts]
    return Table("failures", [Column(name, name, words=True) for name in names], lines)
