"""The script of an MLflow model (models from code): histories go in, the items to recommend come out.

MLflow runs it wherever the model is loaded, beside copies of the package `etarec` and of those that hold a model or
gate of the user's own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from etarec.serving import load, read


class ChosenRecommender(PythonModel):
    """The chosen configuration of a search, from its checkpoint. It takes no feedback, so it learns nothing lasting."""

    def load_context(self, context: PythonModelContext) -> None:
        run = Path(context.artifacts["run"])
        config = replace(read(run).config, fisher_alpha=0.0)  # the penalty is computed from the log
        self.recommender = load(run, adapt=config, log=False, guard=None)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Columns `items` and `scores`, a list of each per row of the column `history`."""
        asked = params or {}
        histories = [list(history) for history in model_input["history"]]
        found = self.recommender.recommend(
            histories, asked.get("k", 10), leave_out_seen=asked.get("leave_out_seen", False)
        )
        return pd.DataFrame(
            {"items": [list(one.items) for one in found], "scores": [list(one.scores) for one in found]}
        )


set_model(ChosenRecommender())
