"""Two saved views that show metrics in MLflow's table of runs, which has no such columns by default.

MLflow keeps a saved view as a tag of the experiment. It lists them in the menu Views above the table and opens one at
the address `.../runs?viewStateShareKey=front`. The tag's format is MLflow's own: a version that does not know it shows
its usual table.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SHOWN = ("hr_at_10", "filter_rate", "arithmetic", "test_hr_at_10", "test_filter_rate")
_PREFIX = "mlflow.sharedViewState."


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _view(name: str, order: str, *, rising: bool, **more: Any) -> str:
    columns = [_metric(metric) for metric in SHOWN]
    state = {"selectedColumns": columns, "orderByKey": _metric(order), "orderByAsc": rising, **more}
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


VIEW_TAGS: Mapping[str, str] = MappingProxyType(
    {
        f"{_PREFIX}front": _view("Pareto front", "filter_rate", rising=True, searchFilter='tags.pareto = "true"'),
        f"{_PREFIX}trials": _view("All trials", "hr_at_10", rising=False),
    }
)
