"""Plots of the other pairs of objectives, where there are more than the quality and the skipped passes."""

import itertools

import pandas as pd
import plotly.graph_objects as go

from etarec.metrics import COST, label
from search.baselines import along_front
from search.report.files import Run
from search.report.pareto_plot import Frames
from search.report.plots import BASELINE, CHOSEN, GREY, MARKING_BAR, RANDOM, VALID, escaped, fragment, layout

_UNITS = {"filter_rate": "filter rate", COST: "cost of serving, adapting on everything is 1"}


def plots(run: Run, frames: Frames) -> list[tuple[str, str]]:
    """Titles and HTML fragments, on validation; none for a search by quality and filter rate."""
    names = [name for name in (*run.objectives, "filter_rate") if name in frames.trials]
    pairs = itertools.combinations(dict.fromkeys(names), 2)
    return [
        (f"{label(one)} and {label(other)}", _plot(frames, other, one))
        for one, other in pairs
        if {one, other} != {run.quality, "filter_rate"}
    ]


def _plot(frames: Frames, x: str, y: str) -> str:
    figure = go.Figure(layout=layout(height=420))
    random = frames.baselines["trial_id"].map(along_front).astype(bool)
    of_points = {x: f"valid_{x}", y: f"valid_{y}"}
    for frame, columns, name, color, symbol, size in (
        (frames.dominated, {x: x, y: y}, "other trials", GREY, "circle", 7),
        (frames.baselines[random], of_points, "random skipping", RANDOM, "circle", 7),
        (frames.baselines[~random], of_points, "baseline", BASELINE, "square-open", 9),
        (frames.front, of_points, "front", VALID, "circle", 9),
        (frames.chosen_row, of_points, "chosen", CHOSEN, "star-open", 15),
    ):
        part: pd.DataFrame = frame.reindex(columns=["trial_id", *columns.values()]).dropna()
        figure.add_scatter(
            x=part[columns[x]], y=part[columns[y]], mode="markers", name=name, text=escaped(part),
            customdata=None if name in ("random skipping", "baseline") else part["trial_id"],
            hovertemplate="%{text}<extra></extra>", marker={"color": color, "symbol": symbol, "size": size},
        )  # fmt: skip
    figure.update_xaxes(title=_UNITS.get(x, label(x)))
    figure.update_yaxes(title=_UNITS.get(y, label(y)))
    return fragment(figure, f"objectives-{x}-{y}", MARKING_BAR)
