"""A log file written by a test."""

from pathlib import Path

import pandas as pd

from etarec.config import DataConfig


def log_of(path: Path, rows: list[tuple[str, str, object]]) -> DataConfig:
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(path, index=False)
    return DataConfig(path=str(path), k_core=0)
