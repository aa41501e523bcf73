"""Parallel coordinates: each finished trial is a line across the searched parameters and both objectives.

The page draws them as SVG, in which a drag along an axis picks trials.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from etarec.metrics import label
from search.report import parameters
from search.report.axes import Axis, objective, searched
from search.report.files import Run
from search.report.plots import skipped

Kind = Literal["other", "front", "chosen"]
_ORDER: tuple[Kind, ...] = ("other", "front", "chosen")  # of drawing: the chosen trial lies on top
WIDTH, HEIGHT, TOP, SIDE = 1000, 320, 30, 70  # of the drawing, and the margins of its axes


@dataclass(frozen=True)
class Trace:
    """One trial: its places on the axes from 0 (bottom) to 1, None where a value is unknown, and its SVG path."""

    trial: str
    kind: Kind
    places: tuple[float | None, ...]
    path: str


@dataclass(frozen=True)
class Parallel:
    """Axes from left to right, and traces in the order of drawing."""

    axes: tuple[Axis, ...]
    traces: tuple[Trace, ...]

    def x(self, place: int) -> float:
        """The horizontal place of an axis."""
        return SIDE + place * (WIDTH - 2 * SIDE) / max(len(self.axes) - 1, 1)


def y(position: float) -> float:
    """The vertical place of a position on an axis."""
    return round(TOP + (1 - position) * (HEIGHT - 2 * TOP), 1)


def coordinates(run: Run, chosen: str) -> Parallel | None:
    """The drawing of a search; None without a finished trial."""
    trials = run.finished
    if trials.empty:
        return None
    percents = 100 * skipped(trials, "")
    ends = (objective(label(run.quality), trials[run.quality]), Axis("skipped %", 0.0, 100.0))
    of_parameters = searched(run)
    columns = [axis.positions(parameters.axis_values(run, name)) for name, axis in of_parameters.items()]
    columns += [ends[0].positions(trials[run.quality]), ends[1].positions(percents)]
    empty = Parallel((*of_parameters.values(), *ends), ())
    front = set(run.front["trial_id"])
    traces = [
        Trace(name, "chosen" if name == chosen else "front" if name in front else "other", places, _path(empty, places))
        for name, *row in zip(trials["trial_id"], *columns, strict=True)
        for places in [tuple(None if np.isnan(place) else round(float(place), 4) for place in row)]
    ]
    return Parallel(empty.axes, tuple(sorted(traces, key=lambda trace: _ORDER.index(trace.kind))))


def _path(drawing: Parallel, places: tuple[float | None, ...]) -> str:
    corners = [f"{drawing.x(axis):.1f},{y(place)}" for axis, place in enumerate(places) if place is not None]
    return "M" + " L".join(corners)
