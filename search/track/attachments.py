"""The data set as input and the files as artifacts of the search's own run in MLflow."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from search.track.wanted import MAX_NAME, Copy

ARTIFACTS_TAG = "etarec.artifacts"
ARTIFACT_TYPES = {".yaml", ".json", ".jsonl", ".csv", ".html", ".md", ".png", ".svg"}
MAX_DIGEST = 36  # characters of a data set's digest in MLflow
_COUNTS = ("users", "items", "interactions", "samples")


@dataclass(frozen=True)
class Attachments:
    """Attaches to one run what it lacks. `answered` is called after each answer, with True if the request wrote."""

    client: MlflowClient
    run: Copy
    answered: Callable[[bool], None]

    def log_data(self, about: Mapping[str, Any]) -> bool:
        """Log the data set that the section `data` of provenance.json describes. False if the run has it."""
        digest = str(about.get("sha256") or "")[:MAX_DIGEST]
        inputs = self.client.get_run(self.run.run_id).inputs
        self.answered(False)
        if not digest or any(given.dataset.digest == digest for given in (inputs.dataset_inputs if inputs else [])):
            return False
        source, counts = str(about.get("source")), {name: about.get(name) for name in _COUNTS}
        name, place = Path(source).name[:MAX_NAME], json.dumps({"uri": source})
        data = Dataset(name, digest, "local", place, profile=json.dumps(counts))
        self.client.log_inputs(self.run.run_id, [DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, "search")])])
        self.answered(True)
        return True

    def upload(self, folder: Path) -> bool:
        """Upload the folder's files. False if the run has them with the same content."""
        files = [file for file in sorted(folder.iterdir()) if _is_artifact(file)]
        content = hashlib.sha256()
        for file in files:
            content.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        there = {artifact.path for artifact in self.client.list_artifacts(self.run.run_id)}
        self.answered(False)
        if self.run.tags.get(ARTIFACTS_TAG) == content.hexdigest() and there >= {file.name for file in files}:
            return False
        for file in files:
            self.client.log_artifact(self.run.run_id, str(file))
            self.answered(True)
        self.client.set_tag(self.run.run_id, ARTIFACTS_TAG, content.hexdigest())
        return True


def _is_artifact(file: Path) -> bool:
    return file.is_file() and file.suffix in ARTIFACT_TYPES and not file.name.startswith(".")
