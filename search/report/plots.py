"""The look that all plots of the report share, and the places of measurements in them. Shares are drawn in percent.

The frames are those of search/report/files.py: `trials` with the metric and filter_rate on validation, `front` and
`baselines` with valid_* and test_* columns, which are NaN where nothing was measured. trial_id is text. The page's
style sheet colours text, axes and background, for a light or dark scheme; colours of traces suit both.
"""

from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from etarec.config import Reason

VALID, TEST, GREY, BASELINE, CHOSEN = "#3b82f6", "#ea580c", "#a3adba", "#8b5cf6", "#e11d48"
RANDOM = "#7c8796"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
AXIS = {"zeroline": False, "ticks": "outside", "automargin": True}
_ZOOM, _MARK = ["zoom2d", "pan2d"], ["select2d", "lasso2d"]
_VIEW = ["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]
MODE_BAR = {"displaylogo": False, "displayModeBar": True, "modeBarButtons": [[*_ZOOM, *_VIEW]]}
MARKING_BAR = {**MODE_BAR, "modeBarButtons": [[*_ZOOM, *_MARK, *_VIEW]]}  # of plots whose trials can be picked


def plotly_script() -> str:
    """Plotly's JavaScript; a page that contains it once works offline."""
    return str(get_plotlyjs())


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


def escaped(frame: pd.DataFrame) -> list[str]:
    """The names of a frame's trials; Plotly interprets some HTML in texts."""
    return [escape(str(name)) for name in frame["trial_id"]]


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
