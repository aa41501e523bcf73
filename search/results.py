"""The plain files of a finished search, read and checked: what every report is computed from."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from etarec.config import UserError
from search.findings import Split

METRICS = ("hr_at_10", "ndcg_at_10", "hr_at_50", "ndcg_at_50")
SECONDS = ("forward_seconds", "gate_seconds", "adapt_seconds")
_MEASURED = (*METRICS, "filter_rate", "seconds", *SECONDS)
OPTIONAL = ("filtered_by_seen", "filtered_by_entropy", "filtered_by_redundancy")
_DELTA = ("test_delta_hr_at_10", "test_delta_hr_at_10_low", "test_delta_hr_at_10_high", "test_delta_hr_at_10_p")
_TEST = (*(f"test_{name}" for name in (*_MEASURED, *OPTIONAL)), "test_hr_at_10_low", "test_hr_at_10_high", *_DELTA)


@dataclass(frozen=True)
class Run:
    """The files of one search. Unmeasured numbers are NaN, trial_id is text, every test column is there."""

    spec: dict[str, Any]
    provenance: dict[str, Any]
    chosen: dict[str, Any]
    trials: pd.DataFrame
    front: pd.DataFrame
    baselines: pd.DataFrame

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "FINISHED"]

    @property
    def parameters(self) -> list[str]:
        return [str(name) for name in self.spec["space"]]

    @property
    def split(self) -> Split:
        return "test" if len(self.front) and self.front["test_hr_at_10"].notna().all() else "valid"

    @property
    def quality(self) -> str:
        """The metric that was searched for beside the filter rate."""
        objectives = (self.spec.get("search") or {}).get("objectives") or []
        return next((str(name) for name in objectives if name in METRICS), "hr_at_10")

    @property
    def items(self) -> int | None:
        return (self.provenance.get("data") or {}).get("items")


def load(directory: Path) -> Run:
    """Read and check the files of a search.

    Raises:
        UserError: as `render`.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; expected the folder of a search, such as runs/demo")
    spec = _mapping(directory / "spec.yaml", yaml.safe_load)
    if not isinstance(spec.get("space"), dict):
        raise UserError(f"{directory / 'spec.yaml'}: `space` must be a mapping of the searched parameters")
    valid = tuple(f"valid_{name}" for name in _MEASURED)
    front = _table(directory / "pareto.csv", ("trial_id", *spec["space"], *valid), spec["space"])
    run = Run(
        spec=spec,
        provenance=_mapping(directory / "provenance.json", json.loads),
        chosen=_mapping(directory / "chosen.yaml", yaml.safe_load) if len(front) else {},
        trials=_table(directory / "trials.csv", ("trial_id", "state", *spec["space"], *_MEASURED), spec["space"]),
        front=front.reindex(columns=list(dict.fromkeys([*front, *_TEST, "on_test_front"]))),
        baselines=_baselines(directory / "baselines.csv", valid, spec["space"]),
    )
    if len(front) and str(run.chosen.get("trial_id")) not in set(front["trial_id"]):
        raise UserError(f"{directory / 'chosen.yaml'}: trial_id {run.chosen.get('trial_id')!r} is no row of pareto.csv")
    return run


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = parse(_text(path))
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be parsed: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (UTF-8)") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _table(path: Path, required: tuple[str, ...], parameters: dict[str, Any]) -> pd.DataFrame:
    """A CSV with its measured columns as floats; a file without any line is a table without rows."""
    if not _text(path).strip():
        return _numbers(path, pd.DataFrame(columns=list(required), dtype=str), parameters)
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from error
    missing = [name for name in required if name not in frame]
    if missing:
        raise UserError(f"{path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return _numbers(path, frame, parameters)


def _numbers(path: Path, frame: pd.DataFrame, parameters: dict[str, Any]) -> pd.DataFrame:
    words = ("trial_id", "state", "mlflow_run_id", "error", "on_test_front")
    for name in frame.columns.difference(words):
        parsed = pd.to_numeric(frame[name].where(frame[name] != ""), errors="coerce").astype(float)
        wrong = parsed.isna() & (frame[name] != "")
        if not wrong.any():
            frame[name] = parsed
        elif name not in parameters:
            line = int(wrong.to_numpy().argmax())
            raise UserError(f"{path}: row {line + 1}, column {name}: {frame[name].iloc[line]!r} is not a number")
    return frame


def _baselines(path: Path, valid: tuple[str, ...], parameters: dict[str, Any]) -> pd.DataFrame:
    frame = _table(path, ("trial_id", *valid), parameters)
    return frame.reindex(columns=list(dict.fromkeys([*frame, *_TEST])))
