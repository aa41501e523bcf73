"""The chosen configuration as an MLflow model of the parent run, for MLflow's registry and its server."""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

import etarec
from etarec import own, serving
from etarec.serving.run import CHECKPOINT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about MLflow's own type hints, as it is imported
    import mlflow.pyfunc

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # they would cross the search's own

NAME = "recommender"
TAG = "etarec.model"
FILES = ("chosen.yaml", "spec.yaml", "provenance.json")
PACKAGES = ("filelock", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "torch")
SIGNATURE = ModelSignature(
    Schema([ColSpec(Array(DataType.string), "history")]),
    Schema([ColSpec(Array(DataType.string), "items"), ColSpec(Array(DataType.double), "scores")]),
    ParamSchema([ParamSpec("k", DataType.long, 10), ParamSpec("leave_out_seen", DataType.boolean, False)]),
)


def log(client: MlflowClient, run_id: str, found: serving.Run) -> bool:
    """Log the model of a search to the search's own run. False if the run has it.

    Raises UserError where the code of a model or gate of the user's own cannot be imported.
    """
    mark = hashlib.sha256(f"{found.checkpoint.sha256} {found.config} {found.advice}".encode()).hexdigest()
    run = client.get_run(run_id)
    if run.data.tags.get(TAG) == mark:
        return False
    code = _code(found)
    made = client.create_logged_model(run.info.experiment_id, NAME, run_id)  # `Model.log` would take MLflow's default
    with _folder(found) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = _content(found, folder, code)
        Model.log(None, mlflow.pyfunc, name=NAME, run_id=run_id, model_id=made.model_id, **content)
    client.set_tag(run_id, TAG, mark)
    return True


@contextmanager
def _folder(found: serving.Run) -> Iterator[Path]:
    """The files that the model needs, in one folder."""
    with tempfile.TemporaryDirectory(prefix="etarec-model-") as name:
        folder = Path(name) / "run"
        folder.mkdir()
        for file in FILES:
            shutil.copy(found.directory / file, folder)
        shutil.copy(found.checkpoint_file, folder / CHECKPOINT)
        yield folder


def _code(found: serving.Run) -> list[str]:
    """The packages that the model imports: this one, and those of a model and a gate of the user's own."""
    paths = {("model", "class"): found.checkpoint.model.class_path, ("adapt", "gate"): found.config.own_gate}
    packages = [Path(etarec.__file__).parent]
    for place, path in paths.items():
        if path:
            own.load(path, place)
            packages.append(own.package(path))
    return [str(package) for package in dict.fromkeys(packages)]


def _content(found: serving.Run, folder: Path, code: list[str]) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.save_model`."""
    tokens = found.checkpoint.vocabulary[:2].to_pylist()
    return {
        "python_model": str(Path(__file__).with_name("pyfunc_model.py")),
        "code_paths": code,
        "artifacts": {"run": str(folder)},
        "signature": SIGNATURE,
        "input_example": (pd.DataFrame({"history": [tokens, tokens[:1]]}), {"k": 3}),
        "pip_requirements": [f"{package}=={version(package)}" for package in PACKAGES],
        "metadata": {"verdict": found.verdict, "advice": found.advice, "search": found.directory.name},
    }
