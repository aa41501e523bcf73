"""The front in quality and seconds of learning, beside the one in quality and skipped passes.

Seconds are those of `adapt_seconds`: CPU seconds, or a GPU's, in which a measurement learned. They do not hold serving.
"""

from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from etarec.metrics import label
from search.baselines import along_front
from search.report.plots import BASELINE, CHOSEN, MODE_BAR, RANDOM, TEST, Describe, Frames, fragment, layout

Prefix = Literal["valid_", "test_"]
PREFIXES: dict[str, Prefix] = {"valid": "valid_", "test": "test_"}


def measured(frames: Frames, prefix: Prefix) -> pd.DataFrame:
    """The measured points of front and baselines on a split: trial_id, seconds and quality."""
    rows = pd.concat([frames.front, frames.baselines])
    columns = {f"{prefix}adapt_seconds": "seconds", f"{prefix}{frames.metric}": "quality"}
    return rows.rename(columns=columns).reindex(columns=["trial_id", "seconds", "quality"]).dropna()


def front(points: pd.DataFrame) -> pd.DataFrame:
    """The points that no other one beats with as few seconds or equals with fewer, by seconds."""
    ordered = points.sort_values(["seconds", "quality"], ascending=[True, False])
    best_before = ordered["quality"].cummax().shift(fill_value=float("-inf"))
    return ordered[ordered["quality"] > best_before]


def sentence(frames: Frames, prefix: Prefix) -> str:
    """The front in words; empty where no seconds are known."""
    best = front(measured(frames, prefix))
    if best.empty:
        return ""
    names = (f"{p.trial_id} ({p.seconds:.1f} s, {p.quality:.4f})" for p in best.itertuples())
    return f"Fewer seconds never reach the {label(frames.metric)} of these configurations: {', '.join(names)}."


def plot(frames: Frames, prefix: Prefix, describe: Describe) -> str:
    """Interactive plot of the quality over seconds of learning, as an HTML fragment."""
    points, figure = measured(frames, prefix), go.Figure(layout=layout(height=420))
    best = front(points)
    line = {"color": TEST, "width": 1.5, "shape": "hv"}
    figure.add_scatter(
        x=best["seconds"], y=best["quality"], mode="lines", line=line, showlegend=False, hoverinfo="skip"
    )
    random = points["trial_id"].map(along_front).astype(bool)
    fixed, chosen = points["trial_id"].isin(frames.baselines["trial_id"]), points["trial_id"] == frames.chosen
    for kept, name, color, symbol, size in (
        (random, "random skipping", RANDOM, "circle", 7),
        (fixed & ~random, "baseline", BASELINE, "square", 9),
        (~fixed & ~chosen, "front", TEST, "diamond", 9),
        (chosen, "chosen", CHOSEN, "star", 15),
    ):
        part = points[kept]
        figure.add_scatter(
            x=part["seconds"], y=part["quality"], mode="markers", name=name, hovertemplate="%{text}<extra></extra>",
            text=[describe(point, prefix) for point in part["trial_id"]],
            marker={"color": color, "symbol": symbol, "size": size},
        )  # fmt: skip
    figure.update_xaxes(title="seconds of learning", rangemode="tozero")
    figure.update_yaxes(title=label(frames.metric), tickformat=".3f")
    return fragment(figure, "seconds-plot", MODE_BAR)
