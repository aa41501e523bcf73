"""Plots of the searched parameters: each against both objectives, and the most important ones against each other.

A point's customdata is its trial, so that the page can mark the same trials in all plots.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from etarec.metrics import label
from search.report import parameters
from search.report.axes import Axis
from search.report.files import Run
from search.report.importance import Importances
from search.report.plots import AXIS, CHOSEN, GREY, VALID, escaped, fragment, layout, skipped

MOST_MAPPED = 4  # parameters in maps of pairs
SCALE = "Viridis"
_NO_BAR = {"displayModeBar": False}


def by_parameter(run: Run) -> list[tuple[str, str]]:
    """Each parameter and its plot against both objectives, an HTML fragment."""
    return [(name, _against_objectives(run, name)) for name in run.parameters] if len(run.finished) else []


def _against_objectives(run: Run, name: str) -> str:
    trials, x, front = run.finished, parameters.axis_values(run, name), set(run.front["trial_id"])
    figure = go.Figure(layout=layout(height=380))
    marker = {"color": [VALID if trial in front else GREY for trial in trials["trial_id"]], "size": 7}
    for axis, values in (("y", trials[run.quality]), ("y2", 100 * skipped(trials, ""))):
        figure.add_scatter(
            x=x, y=values, yaxis=axis, mode="markers", marker=marker, showlegend=False, customdata=trials["trial_id"],
            text=escaped(trials), hovertemplate="%{text}<br>%{x}, %{y:.4~g}<extra></extra>",
        )  # fmt: skip
    entry = run.spec["space"][name]
    log = isinstance(entry, dict) and bool(entry.get("log"))
    kind = "category" if not pd.api.types.is_numeric_dtype(x) else "log" if log else "linear"
    ticks = {"tickvals": log_ticks(x), "ticktext": [f"{tick:g}" for tick in log_ticks(x)]} if kind == "log" else {}
    figure.update_xaxes(title=name, type=kind, anchor="y2", nticks=6, **ticks)
    figure.update_layout(
        yaxis={"title": label(run.quality), "domain": [0.55, 1], "tickformat": ".3f", "nticks": 5},
        yaxis2={**AXIS, "title": "skipped (%)", "domain": [0, 0.45], "range": [-5, 105], "dtick": 25},
    )
    return fragment(figure, f"plot-{name}", _NO_BAR)


def log_ticks(x: pd.Series) -> list[float]:
    """Powers of ten, and three times the powers of ten over less than three decades."""
    low, high = float(x.min()), float(x.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1, 3) if high / low < 1000 else (1,)
    ticks = [multiple * 10.0**decade for decade in decades for multiple in multiples]
    return [tick for tick in ticks if 0.7 * low <= tick <= 1.4 * high]


def mapped(names: Sequence[str], found: Importances) -> list[str]:
    """The parameters to draw in pairs: those with the largest share of either objective, in the order of the spec."""
    most = {name: max((shares[name].value for shares in found.values()), default=0.0) for name in names}
    kept = sorted(names, key=lambda name: -most[name])[:MOST_MAPPED]
    return [name for name in names if name in kept]


def pairs(run: Run, searched: Mapping[str, Axis], found: Importances, chosen: str) -> list[tuple[str, str]]:
    """A map for each pair of important parameters: a title and an HTML fragment.

    Colours show an objective; a trace's `meta` has the values of both, between which the page switches.
    """
    names = mapped(list(searched), found)
    return [(f"{x} and {y}", _pair(run, searched[x], searched[y], chosen)) for x, y in combinations(names, 2)]


def _pair(run: Run, x: Axis, y: Axis, chosen: str) -> str:
    trials, figure = run.finished, go.Figure(layout=layout(height=320))
    front, is_chosen = trials["trial_id"].isin(run.front["trial_id"]), trials["trial_id"] == chosen
    edge = np.where(is_chosen, CHOSEN, np.where(front, VALID, GREY))
    values = {"quality": trials[run.quality].tolist(), "skipped": (100 * skipped(trials, "")).tolist()}
    lines = zip(
        escaped(trials),
        (parameters.text(x.title, value) for value in trials[x.title]),
        (parameters.text(y.title, value) for value in trials[y.title]),
        values["quality"],
        values["skipped"],
        strict=True,
    )
    figure.add_scatter(
        x=x.positions(parameters.axis_values(run, x.title)), y=y.positions(parameters.axis_values(run, y.title)),
        mode="markers", showlegend=False, customdata=trials["trial_id"], meta=values,
        text=[
            f"<b>{name}</b><br>{x.title} {a}, {y.title} {b}<br>{label(run.quality)} {quality:.4f}, {rate:.1f}% skipped"
            for name, a, b, quality, rate in lines
        ],
        hovertemplate="%{text}<extra></extra>",
        marker={"color": values["quality"], "colorscale": SCALE, "size": np.where(is_chosen, 13, 9),
                "line": {"color": edge, "width": np.where(front, 2, 0.7)}},
    )  # fmt: skip
    for axis, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        places, texts = zip(*axis.ticks(), strict=True)
        update(title=axis.title, range=[-0.08, 1.08], tickvals=places, ticktext=[escape(text) for text in texts])
    return fragment(figure, f"map-{x.title}-{y.title}", _NO_BAR)
