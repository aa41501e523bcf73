"""The report's plots: plotly for the HTML page, matplotlib for the images beside it. Shares are drawn in percent.

The frames are those of search/report/files.py: `trials` with the metric and filter_rate on validation, `front` and
`baselines` with valid_* and test_* columns, which are NaN where nothing was measured. trial_id is text. The page's
style sheet colours text, axes and background, for a light or dark scheme; colours of traces suit both.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from etarec.config import Reason
from etarec.disk import whole_file
from etarec.metrics import label
from search.baselines import along_front
from search.selection.chance import on_curve
from search.selection.pareto import non_dominated

IMAGES = ("pareto.png", "pareto.svg")
VALID, TEST, GREY, BASELINE, CHOSEN = "#3b82f6", "#ea580c", "#a3adba", "#8b5cf6", "#e11d48"
_INK, _GRID = "#1f2937", "#e9ebef"
RANDOM = "#7c8796"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
AXIS = {"zeroline": False, "ticks": "outside", "automargin": True}
_SPLITS = {"valid_": "validation", "test_": "test"}
_DASHES = {"valid_": ("dot", "dotted"), "test_": ("solid", "solid")}  # plotly's and matplotlib's words
_RATE_TITLE = "skipped passes (%)"
_ZOOM, _MARK = ["zoom2d", "pan2d"], ["select2d", "lasso2d"]
_VIEW = ["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]
MODE_BAR = {"displaylogo": False, "displayModeBar": True, "modeBarButtons": [[*_ZOOM, *_VIEW]]}
MARKING_BAR = {**MODE_BAR, "modeBarButtons": [[*_ZOOM, *_MARK, *_VIEW]]}  # of plots whose trials can be picked


class Frames(NamedTuple):
    """The points of a plot and their look: finished trials, front, baselines, the chosen trial's id, the metric."""

    trials: pd.DataFrame
    front: pd.DataFrame
    baselines: pd.DataFrame
    chosen: str
    metric: str

    @property
    def dominated(self) -> pd.DataFrame:
        return self.trials[~self.trials["trial_id"].isin(self.front["trial_id"])]

    @property
    def chosen_row(self) -> pd.DataFrame:
        return self.front[self.front["trial_id"] == self.chosen]

    @property
    def stairs(self) -> pd.DataFrame:
        """The corners of the front on validation, without points that are on it for another objective."""
        places = positions(self.front.sort_values("valid_filter_rate"), "valid_", self.metric)
        return places[non_dominated(places[["x", "y"]].to_numpy(dtype=float))]


Describe = Callable[[str, str], str]  # a point's name and the prefix of its split -> the text that its hover shows


def plotly_script() -> str:
    """Plotly's JavaScript; a page that contains it once works offline."""
    return str(get_plotlyjs())


def pareto_html(frames: Frames, describe: Describe) -> str:
    """Interactive plot of a metric over the skipped passes, as an HTML fragment. The chosen point is drawn last.

    A trace's `meta` is the split that it shows, so that the page can hide the other one.
    """
    figure = go.Figure(layout=layout(height=540))
    curves, baselines = _random_skipping(frames.baselines, frames.metric)
    for split, curve in curves.items():
        line = {"color": RANDOM, "width": 1.5, "dash": _DASHES[split][0]}
        figure.add_scatter(
            x=curve["x"], y=curve["y"], mode="lines+markers", name=f"random skipping, {_SPLITS[split]}", line=line,
            marker={"size": 5, "color": RANDOM}, text=[describe(name, split) for name in curve["trial_id"]],
            hovertemplate="%{text}<extra></extra>", meta=split, legendgroup="random", showlegend=split == [*curves][-1],
        )  # fmt: skip
    draw = _Scatter(figure, frames.metric, describe, frozenset(frames.trials["trial_id"]))
    draw(frames.dominated, "", "other trials, validation", color=GREY, symbol="circle", size=7)
    _line(figure, list(frames.stairs["x"]), list(frames.stairs["y"]), "valid_", color=VALID, shape="vh")
    for frame, color in ((frames.front, TEST), (baselines, BASELINE)):
        _line(figure, *_joins(frame, frames.metric), "both", color=color, opacity=0.45)
    draw(frames.front, "valid_", "front, validation", color=VALID, symbol="circle")
    draw(frames.front, "test_", "front, test", color=TEST, symbol="diamond")
    draw(baselines, "valid_", "baseline, validation", color=BASELINE, symbol="square-open", size=9)
    draw(baselines, "test_", "baseline, test", color=BASELINE, symbol="square", size=9)
    for prefix, symbol in (("valid_", "star-open"), ("test_", "star")):
        draw(frames.chosen_row, prefix, f"chosen, {_SPLITS[prefix]}", color=CHOSEN, symbol=symbol, size=15)
    for x, y, text, align in _labels(baselines, frames.metric):
        style = {"showarrow": False, "xanchor": align, "yshift": -13, "font": {"size": 12}}
        figure.add_annotation(x=x, y=y, text=escape(text), **style)
    figure.update_xaxes(title=_RATE_TITLE, range=[-5, 105])
    figure.update_yaxes(title=label(frames.metric), tickformat=".3f")
    return fragment(figure, "pareto-plot", MARKING_BAR)


def pareto_images(frames: Frames, directory: Path) -> None:
    """Write the plot of `pareto_html` as pareto.png (1600 x 1000 pixels) and pareto.svg, each whole or not at all."""
    figure = _pareto_figure(frames)
    with matplotlib.rc_context({"svg.hashsalt": "pareto", "svg.fonttype": "none"}):
        for name in IMAGES:
            with whole_file(directory / name) as partial:
                metadata = {"Date": None} if name.endswith("svg") else None  # the same files give the same image
                figure.savefig(partial, format=name[-3:], metadata=metadata)


def _pareto_figure(frames: Frames) -> Figure:
    metric = frames.metric
    figure = Figure(figsize=(10, 6.25), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    curves, baselines = _random_skipping(frames.baselines, metric)
    for split, curve in curves.items():
        style: dict[str, Any] = {"color": RANDOM, "linestyle": _DASHES[split][1], "marker": "o", "markersize": 3}
        axes.plot(curve["x"], curve["y"], label=f"random skipping, {_SPLITS[split]}", linewidth=1.2, **style)
    _draw(axes, frames.dominated, "", metric, "other trials, validation", color=GREY, s=28)
    axes.step(frames.stairs["x"], frames.stairs["y"], where="pre", color=VALID, linewidth=1.2)
    for frame, color in ((frames.front, TEST), (baselines, BASELINE)):
        axes.plot(*_joins(frame, metric), color=color, alpha=0.45, linewidth=1)
    _draw(axes, frames.front, "valid_", metric, "front, validation", color=VALID, s=52)
    _draw(axes, frames.front, "test_", metric, "front, test", color=TEST, marker="D", s=42)
    hollow: dict[str, Any] = {"edgecolor": BASELINE, "facecolor": "none"}
    _draw(axes, baselines, "valid_", metric, "baseline, validation", marker="s", s=40, **hollow)
    _draw(axes, baselines, "test_", metric, "baseline, test", marker="s", s=40, color=BASELINE)
    hollow = {"edgecolor": CHOSEN, "facecolor": "white", "linewidth": 1.4}
    _draw(axes, frames.chosen_row, "valid_", metric, "chosen, validation", zorder=5, marker="*", s=190, **hollow)
    _draw(axes, frames.chosen_row, "test_", metric, "chosen, test", zorder=5, marker="*", s=190, color=CHOSEN)
    for x, y, text, align in _labels(baselines, metric):
        axes.annotate(text, (x, y), (0, -14), textcoords="offset points", ha=align, color=_INK, fontsize=9)
    _finish(figure, axes, metric)
    return figure


def _random_skipping(baselines: pd.DataFrame, metric: str) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The curves of random skipping by split prefix, where it was measured along the front, and the other baselines."""
    along = pd.Series([along_front(name) for name in baselines["trial_id"]], baselines.index, dtype=bool)
    if not along.any():
        return {}, baselines
    points = baselines[[on_curve(name) for name in baselines["trial_id"]]]
    curves = {prefix: positions(points, prefix, metric).sort_values("x") for prefix in _SPLITS}
    return {prefix: curve for prefix, curve in curves.items() if len(curve) > 1}, baselines[~along]


def skipped(frame: pd.DataFrame, prefix: str) -> pd.Series:
    """`search.selection.chance.gate_rate` of each row: the share of skipped passes among those that can be computed."""
    rate = frame[f"{prefix}filter_rate"]
    seen = frame.get(f"{prefix}{Reason.NOTHING_TO_LEARN.column}", pd.Series(0.0, frame.index)).fillna(0.0)
    return ((rate - seen) / (1 - seen).where(seen < 1)).where(seen < 1, 1.0).clip(0, 1).where(rate.notna())


def positions(frame: pd.DataFrame, prefix: str, metric: str) -> pd.DataFrame:
    """The measured rows of a frame: trial_id, x, y, and the interval's reach below and above y (NaN without one)."""
    y = frame[f"{prefix}{metric}"]
    low, high = (frame.get(f"{prefix}{metric}_{end}", pd.Series(float("nan"), frame.index)) for end in ("low", "high"))
    columns = {"trial_id": frame["trial_id"], "x": 100 * skipped(frame, prefix), "y": y}
    # The bounds of an interval without width can miss its point by a rounding error.
    reach = {"down": (y - low).clip(lower=0), "up": (high - y).clip(lower=0)}
    return pd.DataFrame({**columns, **reach}).dropna(subset=["x", "y"])


def _joins(frame: pd.DataFrame, metric: str) -> tuple[list[float], list[float]]:
    """Lines from each row's validation measurement to its test measurement, separated by NaN."""
    tested = positions(frame, "test_", metric).add_suffix("_test")
    both = positions(frame, "valid_", metric).join(tested, how="inner")
    nan = float("nan")
    x = [value for pair in zip(both["x"], both["x_test"], strict=True) for value in (*pair, nan)]
    y = [value for pair in zip(both["y"], both["y_test"], strict=True) for value in (*pair, nan)]
    return x, y


def _labels(baselines: pd.DataFrame, metric: str) -> list[tuple[float, float, str, Literal["left", "center", "right"]]]:
    """Place, text and alignment of the baselines' names, below their test measurements, or those on validation.

    Names that would overlap become one text.
    """
    places = positions(baselines, "test_", metric).combine_first(positions(baselines, "valid_", metric))
    places["bottom"] = places["y"] - places["down"].fillna(0)
    height = 0.05 * max(float(places["y"].max() - places["bottom"].min()), 1e-9)
    groups: list[list[Any]] = []
    for place in places.sort_values(["x", "bottom"]).itertuples():
        near = next((g for g in groups if abs(g[0].x - place.x) < 5 and abs(g[0].bottom - place.bottom) < height), None)
        if near is None:
            groups.append([place])
        else:
            near.append(place)
    return [
        (group[0].x, min(p.bottom for p in group), ", ".join(p.trial_id for p in group), _align(group[0].x, len(group)))
        for group in groups
    ]


def _align(x: float, names: int) -> Literal["left", "center", "right"]:
    """The alignment that keeps a text inside the plot."""
    if names == 1 or 25 < x < 75:
        return "center"
    return "left" if x <= 25 else "right"


def escaped(frame: pd.DataFrame) -> list[str]:
    """The names of a frame's trials; Plotly interprets some HTML in texts."""
    return [escape(str(name)) for name in frame["trial_id"]]


class _Scatter(NamedTuple):
    """Draws the measured points of a frame, with their intervals and hover texts. Trials can be marked in the page."""

    figure: go.Figure
    metric: str
    describe: Describe
    trials: frozenset[str]

    def __call__(self, frame: pd.DataFrame, prefix: str, name: str, color: str, symbol: str, size: int = 9) -> None:
        points = positions(frame, prefix, self.metric)
        if points.empty:
            return
        reach = points[["down", "up"]].fillna(0)
        error = {"array": reach["up"], "arrayminus": reach["down"], "thickness": 1, "width": 3}
        self.figure.add_scatter(
            x=points["x"], y=points["y"], mode="markers", name=name, meta=prefix or "valid_",
            text=[self.describe(point, prefix) for point in points["trial_id"]],
            customdata=points["trial_id"] if self.trials.issuperset(points["trial_id"]) else None,
            error_y=error if reach.to_numpy().any() else None, hovertemplate="%{text}<extra></extra>",
            marker={"color": color, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": color}},
        )  # fmt: skip


def _line(
    figure: go.Figure,
    x: list[float],
    y: list[float],
    meta: str,
    *,
    color: str,
    opacity: float = 1,
    shape: str = "linear",
) -> None:
    line = {"color": color, "width": 1.5 if opacity == 1 else 1, "shape": shape}
    figure.add_scatter(
        x=x, y=y, mode="lines", line=line, opacity=opacity, meta=meta, showlegend=False, hoverinfo="skip"
    )


def _draw(axes: Any, frame: pd.DataFrame, prefix: str, metric: str, label: str, zorder: int = 3, **style: Any) -> None:
    points = positions(frame, prefix, metric)
    if points.empty:
        return
    axes.scatter(points["x"], points["y"], label=label, zorder=zorder, **style)
    reach = points[["down", "up"]].fillna(0).to_numpy().T
    if reach.any() and "color" in style:
        axes.errorbar(points["x"], points["y"], yerr=reach, fmt="none", ecolor=style["color"], elinewidth=1, capsize=2)


def _finish(figure: Figure, axes: Any, metric: str) -> None:
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=_RATE_TITLE, ylabel=label(metric), xlim=(-5, 105))
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9, handletextpad=0.3)


def layout(height: int) -> dict[str, Any]:
    """The look that all plots of the page share."""
    return {
        "height": height,
        "font": {"family": _FONT, "size": 13},
        "plot_bgcolor": "rgba(0,0,0,0)",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 60, "r": 10, "t": 30, "b": 50},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "dragmode": "zoom",
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hoverlabel": {"bgcolor": "#111827", "font": {"color": "white"}, "align": "left", "bordercolor": "#111827"},
        "hovermode": "closest",
    }


def fragment(figure: go.Figure, div_id: str, options: dict[str, Any]) -> str:
    """A figure as HTML for a page that holds plotly's script."""
    image = {"toImageButtonOptions": {"format": "svg", "filename": div_id}}
    config = {"responsive": True, **image, **options}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=div_id, config=config))
