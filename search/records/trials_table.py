"""The table of all trials, which trials.csv holds for people and pandas."""

import re
from collections.abc import Sequence

import pandas as pd

from etarec.config import SKIPPED, Reason
from etarec.metrics import COST, COSTS, QUALITY_METRICS, SECONDS
from search.records.trial import Trial

METRICS = (*QUALITY_METRICS, "filter_rate", *(reason.column for reason in SKIPPED), *COSTS, COST, *SECONDS)
COLUMNS = {"trial_id", "state", *METRICS, "mlflow_run_id", "error", "traceback"}
# The two tests of the published gate always have a column, the other reasons only where a sample was skipped for them.
_ALWAYS_SHOWN = {Reason.ENTROPY.column, Reason.REDUNDANCY.column}


def of_trials(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row per trial, failed ones included; a part of the filter rate that is always 0 has no column.

    The line ends of a traceback are written as \\n, so that the file has one line per trial.
    """
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    rows = [
        {
            "trial_id": trial.trial_id,
            "state": str(trial.state),
            **trial.parameters,
            **{name: trial.metrics.get(name) for name in METRICS},
            "mlflow_run_id": trial.mlflow_run_id,
            "error": trial.error,
            "traceback": trial.traceback.replace("\n", "\\n"),
            "source": trial.source,
        }
        for trial in trials
    ]
    columns = ["trial_id", "state", *parameters, *METRICS, "mlflow_run_id", "error", "traceback"]
    columns += ["source"] * any(trial.source for trial in trials)
    # As objects first: beside a null, pandas would make an integer a float.
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return without_idle_columns(table.astype(dict.fromkeys(METRICS, float)))


def without_idle_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table without what does not apply to this search: parts of the filter rate that are 0 in every row, and a
    cost that was not measured."""
    droppable = {COST, *(reason.column for reason in SKIPPED)} - _ALWAYS_SHOWN
    idle = [c for c in table.columns if re.sub("^(valid|test|rehearsal)_", "", c) in droppable]
    idle = [c for c in idle if not table[c].fillna(0).astype(float).any()]
    return table.drop(columns=idle)
