"""The plot of a replay: the share that each sampler has found after each trial."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

BAND = ("random", "auto")  # the samplers whose quartiles are drawn
COLORS = ("#6b7280", "#9ca3af", "#d97706", "#0d9488", "#7c3aed", "#2563eb")


def draw(file: Path, reached: Mapping[str, NDArray[np.float64]]) -> None:
    """Write an SVG file. reached: float [seeds, trials] of each sampler, shares that have been found."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="trials", ylabel="share found beyond the anchors", ylim=(0, 1))
    for (label, shares), color in zip(reached.items(), COLORS, strict=False):
        trials = np.arange(1, shares.shape[1] + 1)
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        axes.step(trials, middle, where="post", label=label, color=color, linewidth=2 if label == "auto" else 1.2)
        if label in BAND:
            axes.fill_between(trials, low, high, step="post", color=color, alpha=0.15, linewidth=0)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "search", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
