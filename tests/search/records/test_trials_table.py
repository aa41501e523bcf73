"""trials.csv: the same as the journal, and only columns that say something."""

from pathlib import Path

import pandas as pd
from made_up_records import filled

from search.records.trial import trial_id
from search.records.trials_table import METRICS, of_trials, without_idle_columns


def test_trials_csv_equals_the_journal(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.write_table()
    table = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)
    kept = [name for name in METRICS if name not in ("filtered_by_seen", "filtered_by_chance")]
    assert list(table) == [
        "trial_id",
        "state",
        "top_k",
        "cosine_threshold",
        *kept,
        "mlflow_run_id",
        "error",
        "traceback",
    ]
    for row, trial in zip(table.to_dict("records"), records.trials.values(), strict=True):
        assert (row["trial_id"], row["state"]) == (trial_id(trial.number), str(trial.state))
        assert row["top_k"] == ("" if trial.parameters["top_k"] is None else str(trial.parameters["top_k"]))
        assert [row[name] for name in kept] == [str(trial.metrics.get(name, "")) for name in kept]
        assert (row["mlflow_run_id"], row["error"]) == (trial.mlflow_run_id, trial.error)
        assert row["traceback"].replace("\\n", "\n") == trial.traceback
    assert any("\n" in trial.traceback for trial in records.trials.values())
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + len(table)


def test_the_table_of_no_trials_has_its_columns() -> None:
    assert list(of_trials([]))[:2] == ["trial_id", "state"]


def test_parts_of_the_filter_rate_are_columns_only_where_they_apply() -> None:
    table = pd.DataFrame(
        {
            "valid_filtered_by_seen": [0.0, 0.5],
            "test_filtered_by_seen": [None, None],
            "filtered_by_chance": [0.0, None],
            "filtered_by_entropy": [0.0, 0.0],
        }
    )
    assert list(without_idle_columns(table)) == ["valid_filtered_by_seen", "filtered_by_entropy"]
