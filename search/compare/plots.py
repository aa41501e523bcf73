"""The figures of a comparison: fronts over each other, what repeated searches attain, and the fronts' areas."""

from html import escape

import plotly.graph_objects as go

from etarec.metrics import label
from search.compare.attainment import RATES, surfaces
from search.compare.searches import Search, comparable
from search.report.hover import hover_of
from search.report.plots import MODE_BAR, fragment, layout
from search.report.seconds import PREFIXES

COLORS = ("#2563eb", "#ea580c", "#15803d", "#9333ea", "#e11d48", "#0e7490", "#a16207", "#64748b")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon")
_SKIPPED = "skipped passes (%)"


class Scale:
    """The quality axis: the metric itself, or the share of adapting's gain where data sets differ."""

    def __init__(self, searches: list[Search]):
        self.relative = len({search.data for search in searches}) > 1 and all(_gains(search) for search in searches)
        metric = label(searches[0].view.metric)
        self.title = f"share of adapting's gain in {metric} (%)" if self.relative else metric

    def place(self, search: Search, quality: float) -> float:
        if not self.relative:
            return quality
        assert search.anchors is not None
        none, everything = search.anchors
        return 100 * (quality - none) / (everything - none)


def fronts(searches: list[Search], scale: Scale) -> str:
    """All fronts in one plot, as an HTML fragment; the chosen points are larger."""
    figure = go.Figure(layout=layout(height=540))
    for number, search in enumerate(searches):
        color, symbol = COLORS[number % len(COLORS)], _SYMBOLS[number % len(_SYMBOLS)]
        points = search.points()
        chosen = search.answer.run.chosen.get("trial_id")
        sizes = [14 if row["trial_id"] == chosen else 7 for *_, row in points]
        hover, prefix = hover_of(search.answer), PREFIXES[search.split]
        figure.add_scatter(
            x=[100 * skipped for skipped, _, _ in points], y=[scale.place(search, quality) for _, quality, _ in points],
            mode="lines+markers", name=escape(search.name), line={"color": color, "width": 1.5},
            marker={"color": color, "symbol": symbol, "size": sizes},
            text=[f"{escape(search.name)}<br>{hover(str(row['trial_id']), prefix)}" for *_, row in points],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    return _finished(figure, scale, "fronts-plot")


def attainment(group: list[Search], scale: Scale, div_id: str) -> str:
    """The quality that all, half and any of the repeated searches attain, as an HTML fragment."""
    figure = go.Figure(layout=layout(height=420))
    fronts = [[(skipped, scale.place(search, quality)) for skipped, quality, _ in search.points()] for search in group]
    names = (f"all {len(group)} searches", "at least half", "any of them")
    for values, name, dash in zip(surfaces(list(fronts)), names, ("solid", "dash", "dot"), strict=True):
        figure.add_scatter(
            x=100 * RATES, y=values, mode="lines", name=f"attained by {name}", line={"dash": dash, "color": COLORS[0]}
        )
    return _finished(figure, scale, div_id)


def areas(searches: list[Search]) -> str:
    """The share of the area that each front covers on validation, as an HTML fragment.

    Empty where none is known, and where the areas are in different objectives.
    """
    if not comparable(searches):
        return ""
    known = [(search.name, (search.answer.run.provenance.get("search") or {}).get("area_share")) for search in searches]
    shares = [(name, 100 * share) for name, share in known if isinstance(share, int | float)]
    if not shares:
        return ""
    figure = go.Figure(layout=layout(height=80 + 32 * len(shares)))
    names, values = zip(*shares, strict=True)
    figure.add_bar(x=values, y=[escape(name) for name in names], orientation="h", marker={"color": COLORS[0]})
    figure.update_xaxes(title="area under the front (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return fragment(figure, "areas-plot", MODE_BAR)


def _gains(search: Search) -> bool:
    return search.anchors is not None and search.anchors[1] > search.anchors[0]


def _finished(figure: go.Figure, scale: Scale, div_id: str) -> str:
    figure.update_xaxes(title=_SKIPPED, range=[-5, 105])
    figure.update_yaxes(title=scale.title)
    return fragment(figure, div_id, MODE_BAR)
