"""The report's plots: plotly for the HTML page, matplotlib for the PNG beside it. Filter rates are drawn in percent.

The frames are those of search/report/files.py: `trials` with the metric and filter_rate on validation, `front` and
`baselines` with valid_* and test_* columns, which are NaN where nothing was measured. trial_id is text.
"""

import math
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from etarec.disk import whole_file
from etarec.metrics import label
from search.baselines import along_front
from search.selection.chance import on_curve

_VALID, _TEST, _GREY, _INK, _GRID = "#2563eb", "#ea580c", "#b4bcc8", "#1f2937", "#e9ebef"
_RANDOM = "#7c8796"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_AXIS = {"gridcolor": _GRID, "linecolor": "#d5d9e0", "zeroline": False, "ticks": "outside", "tickcolor": "#d5d9e0"}
_SPLITS = {"valid_": "validation", "test_": "test"}
_DASHES = {"valid_": ("dot", "dotted"), "test_": ("solid", "solid")}  # plotly's and matplotlib's words
_RATE_TITLE = "filter rate (% of passes skipped)"


def plotly_script() -> str:
    """Plotly's JavaScript; a page that contains it once works offline."""
    return str(get_plotlyjs())


def pareto_html(trials: pd.DataFrame, front: pd.DataFrame, baselines: pd.DataFrame, chosen: str, metric: str) -> str:
    """Interactive plot of a metric over the filter rate, as an HTML fragment.

    Args:
        trials: the finished trials.
        front: the front's points.
        baselines: the baselines; trial_id is their name.
        chosen: trial_id of the chosen point.
        metric: the searched quality metric, such as hr_at_10.
    """
    figure = go.Figure(layout=_layout(height=560))
    curves, baselines = _random_skipping(baselines, metric)
    for split, curve in curves.items():
        line, marker = {"color": _RANDOM, "width": 1.5, "dash": _DASHES[split][0]}, {"size": 5, "color": _RANDOM}
        figure.add_scatter(
            x=curve["x"], y=curve["y"], mode="lines+markers", name=f"random skipping, {_SPLITS[split]}", line=line,
            marker=marker, text=_names(curve), hovertemplate="<b>%{text}</b><br>%{y:.4f} at %{x:.1f}%<extra></extra>",
        )  # fmt: skip
    points = _positions(trials[~trials["trial_id"].isin(front["trial_id"])], "", metric)
    _scatter(figure, points, "dominated trial", color=_GREY, symbol="circle", size=7)
    stairs = _positions(front.sort_values("valid_filter_rate"), "valid_", metric)
    _line(figure, list(stairs["x"]), list(stairs["y"]), {"color": _VALID, "width": 1.5, "shape": "vh"}, opacity=1)
    for frame, color in ((front, _TEST), (baselines, _INK)):
        _line(figure, *_joins(frame, metric), {"color": color, "width": 1}, opacity=0.35)
    _scatter(figure, _positions(front, "valid_", metric), "front, validation", color=_VALID, symbol="circle")
    _scatter(figure, _positions(front, "test_", metric), "front, test", color=_TEST, symbol="diamond")
    points = _positions(baselines, "valid_", metric)
    _scatter(figure, points, "baseline, validation", color=_INK, symbol="square-open", size=8)
    _scatter(figure, _positions(baselines, "test_", metric), "baseline, test", color=_INK, symbol="square", size=8)
    _ring(figure, front[front["trial_id"] == chosen], metric)
    for x, y, text, align in _labels(baselines, metric):
        style = {"showarrow": False, "xanchor": align, "yshift": -13, "font": {"size": 12}}
        figure.add_annotation(x=x, y=y, text=escape(text), **style)
    figure.update_xaxes(title=_RATE_TITLE, range=[-5, 105])
    figure.update_yaxes(title=label(metric), tickformat=".3f")
    return _fragment(figure, "pareto-plot")


def parameter_html(
    trials: pd.DataFrame, parameter: str, x: pd.Series, log: bool, front_ids: set[str], metric: str
) -> str:
    """One searched parameter against both objectives, as an HTML fragment.

    Args:
        trials: the finished trials.
        parameter: its name.
        x: its values, numbers or names, one per trial.
        log: whether it was searched on a log scale.
        front_ids: trial_ids of the front, drawn in colour.
        metric: the searched quality metric, such as hr_at_10.
    """
    figure = go.Figure(layout=_layout(height=380))
    marker = {"color": [_VALID if trial in front_ids else _GREY for trial in trials["trial_id"]], "size": 7}
    for axis, values in (("y", trials[metric]), ("y2", 100 * trials["filter_rate"])):
        figure.add_scatter(
            x=x, y=values, yaxis=axis, mode="markers", marker=marker, showlegend=False, text=_names(trials),
            hovertemplate="trial %{text}<br>%{x}, %{y:.4~g}<extra></extra>",
        )  # fmt: skip
    numeric = pd.api.types.is_numeric_dtype(x)
    kind = "category" if not numeric else "log" if log else "linear"
    ticks = {"tickvals": _log_ticks(x), "ticktext": [f"{tick:g}" for tick in _log_ticks(x)]} if kind == "log" else {}
    figure.update_xaxes(title=parameter, type=kind, anchor="y2", nticks=6, **ticks)
    figure.update_layout(
        yaxis={"title": label(metric), "domain": [0.55, 1], "tickformat": ".3f", "nticks": 5},
        yaxis2={**_AXIS, "title": "filter rate (%)", "domain": [0, 0.45], "range": [-5, 105], "dtick": 25},
    )
    return _fragment(figure, f"plot-{parameter}")


def pareto_png(
    trials: pd.DataFrame,
    front: pd.DataFrame,
    baselines: pd.DataFrame,
    chosen: str,
    metric: str,
    path: Path,
) -> None:
    """Write the plot of `pareto_html` to `path` as a PNG of 1600 x 1000 pixels, whole or not at all."""
    figure = Figure(figsize=(10, 6.25), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    curves, baselines = _random_skipping(baselines, metric)
    for split, curve in curves.items():
        style: dict[str, Any] = {"color": _RANDOM, "linestyle": _DASHES[split][1], "marker": "o", "markersize": 3}
        axes.plot(curve["x"], curve["y"], label=f"random skipping, {_SPLITS[split]}", linewidth=1.2, **style)
    _draw(axes, trials[~trials["trial_id"].isin(front["trial_id"])], "", metric, "dominated trial", color=_GREY, s=28)
    stairs = _positions(front.sort_values("valid_filter_rate"), "valid_", metric)
    axes.step(stairs["x"], stairs["y"], where="pre", color=_VALID, linewidth=1.2)
    for frame, color in ((front, _TEST), (baselines, _INK)):
        axes.plot(*_joins(frame, metric), color=color, alpha=0.35, linewidth=1)
    _draw(axes, front, "valid_", metric, "front, validation", color=_VALID, s=52)
    _draw(axes, front, "test_", metric, "front, test", color=_TEST, marker="D", s=42)
    hollow = {"edgecolor": _INK, "facecolor": "none"}
    _draw(axes, baselines, "valid_", metric, "baseline, validation", marker="s", s=40, **hollow)
    _draw(axes, baselines, "test_", metric, "baseline, test", marker="s", s=40, color=_INK)
    point = front[front["trial_id"] == chosen]
    _draw(axes, point, "valid_", metric, "chosen", s=260, linewidth=1.6, **hollow)
    _draw(axes, point, "test_", metric, None, s=260, linewidth=1.6, **hollow)
    for x, y, text, align in _labels(baselines, metric):
        axes.annotate(text, (x, y), (0, -14), textcoords="offset points", ha=align, color=_INK, fontsize=9)
    _finish(figure, axes, metric)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def _random_skipping(baselines: pd.DataFrame, metric: str) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The curves of random skipping by split prefix, where it was measured along the front, and the other baselines."""
    along = pd.Series([along_front(name) for name in baselines["trial_id"]], baselines.index, dtype=bool)
    if not along.any():
        return {}, baselines
    points = baselines[[on_curve(name) for name in baselines["trial_id"]]]
    curves = {prefix: _positions(points, prefix, metric).sort_values("x") for prefix in _SPLITS}
    return {prefix: curve for prefix, curve in curves.items() if len(curve) > 1}, baselines[~along]


def _positions(frame: pd.DataFrame, prefix: str, metric: str) -> pd.DataFrame:
    """The measured rows of a frame: trial_id, x, y, and the interval's reach below and above y (NaN without one)."""
    y = frame[f"{prefix}{metric}"]
    low, high = (frame.get(f"{prefix}{metric}_{end}", pd.Series(float("nan"), frame.index)) for end in ("low", "high"))
    columns = {"trial_id": frame["trial_id"], "x": 100 * frame[f"{prefix}filter_rate"], "y": y}
    # The bounds of an interval without width can miss its point by a rounding error.
    reach = {"down": (y - low).clip(lower=0), "up": (high - y).clip(lower=0)}
    return pd.DataFrame({**columns, **reach}).dropna(subset=["x", "y"])


def _joins(frame: pd.DataFrame, metric: str) -> tuple[list[float], list[float]]:
    """Lines from each row's validation measurement to its test measurement, separated by NaN."""
    tested = _positions(frame, "test_", metric).add_suffix("_test")
    both = _positions(frame, "valid_", metric).join(tested, how="inner")
    nan = float("nan")
    x = [value for pair in zip(both["x"], both["x_test"], strict=True) for value in (*pair, nan)]
    y = [value for pair in zip(both["y"], both["y_test"], strict=True) for value in (*pair, nan)]
    return x, y


def _labels(baselines: pd.DataFrame, metric: str) -> list[tuple[float, float, str, Literal["left", "center", "right"]]]:
    """Place, text and alignment of the baselines' names, below their test measurements, or those on validation.

    Names that would overlap become one text.
    """
    places = _positions(baselines, "test_", metric).combine_first(_positions(baselines, "valid_", metric))
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


def _log_ticks(x: pd.Series) -> list[float]:
    """Powers of ten, and three times the powers of ten over less than three decades."""
    low, high = float(x.min()), float(x.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1, 3) if high / low < 1000 else (1,)
    ticks = [multiple * 10.0**decade for decade in decades for multiple in multiples]
    return [tick for tick in ticks if 0.7 * low <= tick <= 1.4 * high]


def _names(frame: pd.DataFrame) -> list[str]:
    # Plotly interprets some HTML in texts.
    return [escape(str(name)) for name in frame["trial_id"]]


def _scatter(figure: go.Figure, points: pd.DataFrame, name: str, color: str, symbol: str, size: int = 9) -> None:
    if points.empty:
        return
    reach = points[["down", "up"]].fillna(0)
    error = {"array": reach["up"], "arrayminus": reach["down"], "thickness": 1, "width": 3}
    figure.add_scatter(
        x=points["x"], y=points["y"], mode="markers", name=name, text=_names(points),
        error_y=error if reach.to_numpy().any() else None,
        marker={"color": color, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": color}},
        hovertemplate="<b>%{text}</b><br>%{y:.4f} at %{x:.1f}%<extra>" + name + "</extra>",
    )  # fmt: skip


def _line(figure: go.Figure, x: list[float], y: list[float], line: dict[str, Any], opacity: float) -> None:
    figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=opacity, showlegend=False, hoverinfo="skip")


def _ring(figure: go.Figure, chosen: pd.DataFrame, metric: str) -> None:
    points = pd.concat([_positions(chosen, prefix, metric) for prefix in ("valid_", "test_")])
    marker = {"symbol": "circle-open", "size": 21, "color": _INK, "line": {"width": 2}}
    figure.add_scatter(x=points["x"], y=points["y"], mode="markers", name="chosen", marker=marker, hoverinfo="skip")


def _draw(axes: Any, frame: pd.DataFrame, prefix: str, metric: str, label: str | None, **style: Any) -> None:
    points = _positions(frame, prefix, metric)
    if points.empty:
        return
    axes.scatter(points["x"], points["y"], label=label, zorder=3, **style)
    reach = points[["down", "up"]].fillna(0).to_numpy().T
    if reach.any() and "color" in style:
        axes.errorbar(points["x"], points["y"], yerr=reach, fmt="none", ecolor=style["color"], elinewidth=1, capsize=2)


def _finish(figure: Figure, axes: Any, metric: str) -> None:
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=_RATE_TITLE, ylabel=label(metric), xlim=(-5, 105))
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9, handletextpad=0.3)


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "font": {"family": _FONT, "size": 13, "color": _INK},
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "margin": {"l": 64, "r": 10, "t": 10, "b": 50},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hoverlabel": {"bgcolor": "white"},
    }


def _fragment(figure: go.Figure, div_id: str) -> str:
    config = {"responsive": True, "displayModeBar": False}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=div_id, config=config))
