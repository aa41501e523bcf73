"""The hover texts of a search's points, on its own page and on a comparison's."""

import textwrap
from html import escape

from search import numbers
from search.report import parameters, tables
from search.report.answer import Answer, rows_of
from search.report.pareto_plot import Describe
from search.selection.view import Split, View

WIDTH = 60  # characters of a line of settings, so that the text fits beside its point


def hover_of(answer: Answer) -> Describe:
    """The hover text of a point: configuration, interval, differences, costs and its run in MLflow."""
    trials = {str(row["trial_id"]): row for row in rows_of(answer.run.trials)}
    points = {str(row["trial_id"]): row for row in (*answer.front, *answer.fixed)}

    def text(name: str, prefix: str) -> str:
        split: Split = "test" if prefix == "test_" else "valid"
        trial = trials.get(name, {})
        row = points.get(name) or {f"valid_{key}": value for key, value in trial.items()}
        view = View(split, answer.view.metric)
        lines = [f"{view.label} {numbers.score(view.quality(row))}{view.interval(row)} on {view.word}"]
        lines += [f"{numbers.percent(view.skipped(row))} of the passes skipped"]
        if (computing := view.computing(row)) is not None:
            lines += [f"{numbers.percent(computing, 0)} of the computing of adapting on every sample"]
        for kind, words in tables.TO_WORDS.items():
            if gap := view.recorded(row, kind):
                lines += [f"{words}: {numbers.signed(gap.value)}{gap.evidence}"]
        if trial:
            values = (f"{key} {parameters.text(key, trial.get(key))}" for key in answer.run.parameters)
            lines += [*textwrap.wrap(", ".join(values), WIDTH), f"MLflow run {trial.get('mlflow_run_id') or 'none'}"]
        return "<br>".join([f"<b>{escape(name)}</b>", *map(escape, lines)])

    return text
