"""A small log of the user's own, and an experiment file for it."""

from pathlib import Path

import pandas as pd

from etarec.config import SimulationConfig
from etarec.simulate import interactions

MINE = """
name: mine
data: {path: clicks.csv, columns: {user: visitor, item: product, timestamp: time}, rehearsal_share: null}
model: {width: 8, heads: 2, mlp_width: 8}
train: {epochs: 1}
space: {top_k: {low: 2, high: 20}, entropy_quantile: {low: 0.1, high: 1.0}}
search: {trials: 2, concurrency: 2, bootstrap_replicates: 50, random_points: 0}
baselines: [none, all]
"""


def made_up_log(columns: list[str], users: int = 150, items: int = 60) -> pd.DataFrame:
    log = interactions(SimulationConfig(users=users, items=items))
    log.columns = columns
    return log


def write_mine(folder: Path) -> None:
    """Write clicks.csv and mine.yaml."""
    made_up_log(["visitor", "product", "time"]).to_csv(folder / "clicks.csv", index=False)
    (folder / "mine.yaml").write_text(MINE)
