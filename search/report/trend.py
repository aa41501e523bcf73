"""The growth of the front with trials and minutes, and a sentence about the budget."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from search.numbers import percent
from search.report.files import Run
from search.report.plots import VALID, fragment, layout
from search.selection.area import area_share
from search.selection.pareto import hypervolume
from search.spec import SearchConfig

LAST = 0.25  # share of the trials at the end, by whose gain the budget is judged
LITTLE, MUCH = 0.01, 0.05  # gains of the last trials, as shares of the area
FEWEST_TRIALS = 8


def areas(run: Run) -> pd.DataFrame:
    """The area under the trials' front after each finished trial, in the order in which they ended.

    Columns: trial_id, `minutes` since the first trial began (NaN where the journal is missing) and `area`, above no
    adaptation and a filter rate of 0: a share of the box up to adapting on every sample where both were measured.
    """
    trials = run.finished.assign(minutes=run.finished["trial_id"].map(run.minutes).astype(float))
    trials = trials.sort_values("minutes", kind="stable")
    fixed = run.baselines.set_index("trial_id")[f"valid_{run.quality}"]
    none, everything = (float(fixed.get(name, np.nan)) for name in ("none", "all"))
    points = trials[[run.quality, "filter_rate"]].to_numpy(dtype=float)
    grown = [_area(points[: number + 1], none, everything) for number in range(len(points))]
    return trials[["trial_id", "minutes"]].assign(area=grown)


def _area(points: NDArray[np.float64], none: float, everything: float) -> float:
    share = area_share(points, (none, 0.0), (everything, 1.0)) if everything > none else None
    return hypervolume(points, (0.0 if np.isnan(none) else none, 0.0)) if share is None else share


def late_gain(grown: pd.DataFrame) -> float | None:
    """The last trials' part of the area; None for few trials or no area."""
    number = len(grown)
    if number < FEWEST_TRIALS or not grown["area"].iloc[-1]:
        return None
    before = float(grown["area"].iloc[number - max(round(LAST * number), 1) - 1])
    return 1 - before / float(grown["area"].iloc[-1])


def sentence(grown: pd.DataFrame, expected: float | None = None) -> str:
    """Whether the budget was enough, in words; empty where that is unknown.

    expected: the largest expected gain of one more trial by the sampler's model, as a share of the area reached.
    """
    gain = late_gain(grown)
    if gain is None:
        return ""
    last = max(round(LAST * len(grown)), 1)
    text = f"The last {last} of {len(grown)} trials brought {percent(gain)} of the area"
    if gain < LITTLE and (expected is None or expected < SearchConfig().converged_below):
        return f"{text}: the budget was enough, and more trials would add little."
    if gain < MUCH:
        return f"{text}: more trials may still add something."
    return f"{text}: the budget was too small, so search on with more trials."


def plots(grown: pd.DataFrame) -> list[tuple[str, str]]:
    """The area against the number of trials and, where it is known, against minutes: titles and HTML fragments."""
    if len(grown) < 2:
        return []
    counts = [float(number) for number in range(1, len(grown) + 1)]
    drawn = [("area by trials", _plot("trend-trials", counts, grown, "finished trials"))]
    if grown["minutes"].notna().all():
        minutes = _plot("trend-minutes", grown["minutes"].tolist(), grown, "minutes of the search")
        drawn.append(("area by minutes", minutes))
    return drawn


def _plot(name: str, x: list[float], grown: pd.DataFrame, title: str) -> str:
    figure = go.Figure(layout=layout(height=280))
    figure.add_scatter(
        x=x, y=100 * grown["area"] / grown["area"].max(), mode="lines", showlegend=False,
        line={"color": VALID, "width": 2, "shape": "hv"}, hovertemplate="%{y:.1f}% of the final area<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title=title, rangemode="tozero")
    figure.update_yaxes(title="area under the front (%)", rangemode="tozero")
    return fragment(figure, name, {"displayModeBar": False})
