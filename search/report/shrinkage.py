"""Validation against test: the agreement of the order of configurations, and the part of a gain that remains."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.stats import spearmanr

from etarec.metrics import label
from search.baselines import NONE, along_front
from search.numbers import correlation
from search.report.pareto_plot import Describe, Frames
from search.report.plots import BASELINE, CHOSEN, TEST, fragment, layout

FEWEST = 4  # configurations, in whose order a correlation is taken
PERFECT = 0.9999


class Agreement(NamedTuple):
    """The rank correlation of configurations on both splits with its 95% interval, and the part of a gain that remains.

    remains: slope of the gain over no adaptation on test by that on validation; None without a gain to compare.
    """

    points: int
    rank: float
    low: float
    high: float
    remains: float | None


def measured(frames: Frames) -> pd.DataFrame:
    """trial_id, valid and test of the front and the baselines measured on both; random skipping along the front not."""
    rows = pd.concat([frames.front, frames.baselines])
    columns = {f"{split}_{frames.metric}": split for split in ("valid", "test")}
    kept = ~rows["trial_id"].map(along_front).astype(bool)
    return rows[kept].rename(columns=columns).reindex(columns=["trial_id", "valid", "test"]).dropna()


def agreement(points: pd.DataFrame) -> Agreement | None:
    """The agreement of both splits; None for few points, or for points that are all equal on one."""
    count = len(points)
    if count < FEWEST or points["valid"].nunique() < 2 or points["test"].nunique() < 2:
        return None
    rank = float(spearmanr(points["valid"], points["test"]).statistic)
    # Fieller, Hartley and Pearson (1957): the variance of Spearman's correlation on Fisher's scale.
    middle, reach = math.atanh(np.clip(rank, -PERFECT, PERFECT)), 1.96 * math.sqrt(1.06 / (count - 3))
    return Agreement(count, rank, math.tanh(middle - reach), math.tanh(middle + reach), _remains(points))


def _remains(points: pd.DataFrame) -> float | None:
    """The slope through the origin, where no adaptation lies."""
    none = points[points["trial_id"] == NONE]
    if none.empty:
        return None
    before, after = (points[split] - none[split].iloc[0] for split in ("valid", "test"))
    return float((before * after).sum() / (before**2).sum()) if before.any() else None


def sentence(points: pd.DataFrame, metric: str) -> str:
    """The agreement in words; empty where it is unknown."""
    found = agreement(points)
    if found is None:
        return ""
    text = (
        f"Front and baselines, {found.points} configurations in all, have a rank correlation of "
        f"{correlation(found.rank)} between validation and test{_interval(found)}."
    )
    if found.remains is None:
        return text
    size = f"{found.remains:.2g} times as large on test as on validation"
    return f"{text} A gain over no adaptation in {label(metric)} is on average {size}."


def _interval(found: Agreement) -> str:
    """The interval with a blank in front; empty for a perfect correlation, whose interval has no width."""
    bounds = f" (95%: {correlation(found.low)} to {correlation(found.high)})"
    return bounds if abs(found.rank) < PERFECT else ""


def plot(frames: Frames, points: pd.DataFrame, describe: Describe) -> str:
    """Interactive plot of test against validation, as an HTML fragment."""
    figure = go.Figure(layout=layout(height=380))
    ends = [float(points["valid"].min()), float(points["valid"].max())]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#94a3b8", "dash": "dot", "width": 1}, name="equal on both",
        hoverinfo="skip",
    )  # fmt: skip
    fixed, chosen = points["trial_id"].isin(frames.baselines["trial_id"]), points["trial_id"] == frames.chosen
    for kept, name, color, symbol, size in (
        (fixed, "baseline", BASELINE, "square", 9),
        (~fixed & ~chosen, "front", TEST, "diamond", 9),
        (chosen, "chosen", CHOSEN, "star", 15),
    ):
        part = points[kept]
        figure.add_scatter(
            x=part["valid"], y=part["test"], mode="markers", name=name, hovertemplate="%{text}<extra></extra>",
            text=[describe(point, "test_") for point in part["trial_id"]],
            customdata=None if name == "baseline" else part["trial_id"],
            marker={"color": color, "symbol": symbol, "size": size},
        )  # fmt: skip
    figure.update_xaxes(title=f"{label(frames.metric)} on validation", tickformat=".3f")
    figure.update_yaxes(title=f"{label(frames.metric)} on test", tickformat=".3f")
    return fragment(figure, "shrinkage-plot", {"displayModeBar": False})
