"""Quality and admitted share along the test stream, for the chosen configuration, no adaptation and adapting on all."""

import plotly.graph_objects as go

from etarec.metrics import label
from search.baselines import ALL, NONE
from search.report.files import Run
from search.report.plots import BASELINE, CHOSEN, TEST, fragment, layout

_COLORS = {NONE: BASELINE, ALL: TEST}


def plots(run: Run) -> list[tuple[str, str]]:
    """The quality and the admitted share of each segment of the stream: titles and HTML fragments; none if unknown."""
    if run.stream.empty:
        return []
    return [
        (label(run.quality), _plot(run, "stream-quality", run.quality, label(run.quality), 1.0)),
        ("admitted share", _plot(run, "stream-admitted", "admitted", "admitted (%)", 100.0)),
    ]


def _plot(run: Run, name: str, column: str, title: str, scale: float) -> str:
    figure, rows = go.Figure(layout=layout(height=320)), run.stream.assign(admitted=1 - run.stream["filter_rate"])
    for configuration, part in rows.groupby("configuration", sort=False):
        color = _COLORS.get(str(configuration), CHOSEN)
        figure.add_scatter(
            x=part["samples"], y=scale * part[column], mode="lines+markers", name=str(configuration),
            line={"color": color, "width": 2 if color == CHOSEN else 1.5}, marker={"size": 4},
            hovertemplate="%{y:.4~g} up to sample %{x:,}",
        )  # fmt: skip
    figure.update_xaxes(title="samples served", rangemode="tozero")
    figure.update_yaxes(title=title, rangemode="tozero")
    return fragment(figure, name, {"displayModeBar": False})


def collapse(run: Run) -> tuple[float, float] | None:
    """Mean quality of adapting on every sample and of no adaptation over the last quarter of the stream."""
    ends = [run.stream[run.stream["configuration"] == name][run.quality] for name in (ALL, NONE)]
    if any(end.empty for end in ends):
        return None
    last = max(len(ends[0]) // 4, 1)
    everything, none = (float(end.iloc[-last:].mean()) for end in ends)
    return everything, none
