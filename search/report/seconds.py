"""The costs of serving and learning on this machine, in CPU milliseconds (or a GPU's) per 1,000 samples.

The measured parts are `forward`, which serves, `gate`, which decides, and `adapt`, which learns. Measurements run side
by side, and the same work then takes more or less CPU time from one to the next. Random skipping shows how much: all
its rates do the same forward passes, and so does adapting on every sample. A difference below that spread is called not
measurable.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from etarec.metrics import SECONDS, label
from search.baselines import NONE, along_front
from search.numbers import percent, seconds
from search.report.pareto_plot import Describe, Frames
from search.report.plots import BASELINE, CHOSEN, MARKING_BAR, RANDOM, TEST, fragment, layout
from search.selection.chance import on_curve
from search.selection.view import Row, Split

Prefix = Literal["valid_", "test_"]
PREFIXES: dict[str, Prefix] = {"valid": "valid_", "test": "test_"}
PARTS = SECONDS[1:]
FEWEST = 3  # measurements of the same work, from which a spread is taken
UNIT = "ms of CPU per 1,000 samples"


class Cost(NamedTuple):
    """CPU milliseconds per 1,000 samples of one configuration."""

    forward: float
    gate: float
    adapt: float

    @property
    def total(self) -> float:
        return self.forward + self.gate + self.adapt


def cost(row: Row, split: Split, samples: int | None) -> Cost | None:
    """The cost of a row; None where it was not measured or the number of samples is unknown."""
    parts = [row.get(f"{split}_{name}") for name in PARTS]
    if not samples or None in parts:
        return None
    return Cost(*(1e6 * float(part) / samples for part in parts if part is not None))


def spread(rows: Iterable[Row], split: Split) -> float | None:
    """The range of the seconds of the same work, as a share of their median; None for too few measurements."""
    same = (row for row in rows if on_curve(str(row["trial_id"])) and row["trial_id"] != NONE)
    measured = pd.Series([row.get(f"{split}_forward_seconds") for row in same], dtype=float).dropna()
    if len(measured) < FEWEST or not measured.median():
        return None
    return float((measured.max() - measured.min()) / measured.median())


def compared(mine: Cost, other: Cost, noise: float | None) -> str:
    """The cost relative to another one, with its range: 28% less (19% to 37%)."""
    share = mine.total / other.total
    words = f"{percent(abs(1 - share), 0)} {'less' if share <= 1 else 'more'}"
    if noise is None:
        return f"{words} (range unknown)"
    low, high = sorted(abs(1 - share * (1 + sign * noise)) for sign in (-1, 1))
    if share * (1 - noise) <= 1 <= share * (1 + noise):
        return "no difference that could be measured"
    return f"{words} ({percent(low, 0)} to {percent(high, 0)})"


def serving(name: str, mine: Cost | None, everything: Cost | None, noise: float | None) -> str:
    """The cost of serving by a configuration against adapting on every sample, in a sentence; empty if unknown."""
    if mine is None or everything is None or not everything.total:
        return ""
    both = f"{seconds(mine.total)} ms with {name} and {seconds(everything.total)} ms with adapting on every sample"
    text = f"Serving 1,000 samples takes {both}: {compared(mine, everything, noise)}."
    return text if noise is None else f"{text} CPU time of the same work varied by up to {percent(noise, 0)}."


def measured(frames: Frames, prefix: Prefix, samples: int | None) -> pd.DataFrame:
    """The measured points of front and baselines on a split: trial_id, cost of learning and quality."""
    rows = pd.concat([frames.front, frames.baselines])
    columns = {f"{prefix}adapt_seconds": "learning", f"{prefix}{frames.metric}": "quality"}
    points = rows.rename(columns=columns).reindex(columns=["trial_id", "learning", "quality"]).dropna()
    return points.assign(learning=1e6 * points["learning"] / samples) if samples else points.iloc[:0]


def front(points: pd.DataFrame) -> pd.DataFrame:
    """The points that no other one beats with as little learning or equals with less, by cost of learning."""
    ordered = points.sort_values(["learning", "quality"], ascending=[True, False])
    best_before = ordered["quality"].cummax().shift(fill_value=float("-inf"))
    return ordered[ordered["quality"] > best_before]


def sentence(points: pd.DataFrame, metric: str) -> str:
    """The front in words; empty where no cost is known."""
    best = front(points)
    if best.empty:
        return ""
    rows = zip(best["trial_id"], best["learning"], best["quality"], strict=True)
    names = (f"{name} ({seconds(float(learning))} ms, {quality:.4f})" for name, learning, quality in rows)
    return f"No configuration scores as high in {label(metric)} with less learning than these: {', '.join(names)}."


def plot(frames: Frames, prefix: Prefix, points: pd.DataFrame, describe: Describe) -> str:
    """Interactive plot of the quality over the cost of learning, as an HTML fragment."""
    figure, best = go.Figure(layout=layout(height=420)), front(points)
    line = {"color": TEST, "width": 1.5, "shape": "hv"}
    figure.add_scatter(
        x=best["learning"], y=best["quality"], mode="lines", line=line, showlegend=False, hoverinfo="skip"
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
            x=part["learning"], y=part["quality"], mode="markers", name=name, hovertemplate="%{text}<extra></extra>",
            text=[describe(point, prefix) for point in part["trial_id"]],
            customdata=None if kept is random or name == "baseline" else part["trial_id"],
            marker={"color": color, "symbol": symbol, "size": size},
        )  # fmt: skip
    figure.update_xaxes(title="learning (ms per 1,000 samples)", rangemode="tozero")
    figure.update_yaxes(title=label(frames.metric), tickformat=".3f")
    return fragment(figure, "seconds-plot", MARKING_BAR)
