"""The records of a made-up search."""

from pathlib import Path

from search.records.records import Records
from search.records.states import State
from search.records.trials_table import METRICS

RESULT = dict.fromkeys(METRICS, 0.25) | {"filtered_by_seen": 0.0, "filtered_by_chance": 0.0}
SETTINGS = {"search.seed": 0, "data.sha256": "a"}
CURVE = {"samples": [1.0, 2.0], "hr_at_10": [0.0, 1.0]}


def filled(directory: Path) -> Records:
    """Four trials, one in each state."""
    records = Records(directory)
    records.begin(SETTINGS)
    for number, top_k in enumerate((50, None, 7, 10)):
        records.started(number, {"top_k": top_k, "cosine_threshold": 0.3})
    records.finished(0, RESULT, CURVE)
    records.ended(1, State.FAILED, "NotFiniteError: seconds is nan", "Traceback ...\nNotFiniteError")
    records.ended(2, State.KILLED, "the search was interrupted")
    records.tracked(0, "run-0")
    records.parent_tracked("parent")
    return records
