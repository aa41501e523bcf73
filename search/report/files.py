"""The plain files of a finished search, read and checked; every report is computed from them."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from etarec.document import quoted
from etarec.metrics import COSTS, QUALITY_METRICS, SECONDS, QualityMetric
from search.baselines import ALL
from search.records.records import Records
from search.records.result_files import check_folder, damaged, mapping_of, text_of
from search.records.states import State
from search.redact import HIDDEN
from search.selection import differences
from search.selection.view import Split, View
from search.spec import ChooseConfig, SearchConfig, constraint, quality_of

TRIALS_PER_PARAMETER = 5  # with fewer a search has hardly seen its space
_MEASURED = (*QUALITY_METRICS, "filter_rate", *SECONDS)

# Sections that are mappings, of provenance.json and of spec.yaml, where `checkpoint` is a file's name.
_RECORDED = {"git", "data", "checkpoint", "rehearsal", "versions", "hardware", "seconds", "search"}
_SPECIFIED = {"data", "model", "train", "adapt", "space", "search"}


@dataclass(frozen=True)
class Run:
    """The files of one search. Numbers that were not measured are NaN, trial_id is text, no test column is missing."""

    spec: dict[str, Any]
    objectives: tuple[str, ...]
    provenance: dict[str, Any]
    chosen: dict[str, Any]
    trials: pd.DataFrame
    front: pd.DataFrame
    baselines: pd.DataFrame
    stream: pd.DataFrame  # configuration, samples, quality and filter_rate along the test stream; empty if unknown
    minutes: dict[str, float]  # at which a trial ended, counted from the first one's beginning; without old journals

    @property
    def quality(self) -> QualityMetric:
        """The first quality metric among the objectives."""
        return quality_of(self.objectives)

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "FINISHED"]

    @property
    def measured(self) -> int:
        """The number of the search's own trials, without those of earlier searches."""
        return len(self.trials) - int((self.trials.get("source", pd.Series(dtype=str)) != "").sum())

    @property
    def more_trials(self) -> int:
        """The number of trials with which it is worth searching on: twice as many, and enough for the parameters."""
        return 2 * max(self.measured, TRIALS_PER_PARAMETER * len(self.parameters))

    @property
    def expected_gain(self) -> float | None:
        """The largest gain that the sampler's model expects of one more trial, as a share of the area reached."""
        gain = (self.provenance.get("search") or {}).get("expected_gain")
        return float(gain) if isinstance(gain, int | float) else None

    @property
    def parameters(self) -> list[str]:
        return [str(name) for name in self.spec["space"]]

    @property
    def view(self) -> View:
        """The quality metric on test, or on validation where test was not measured."""
        rows = self.front if len(self.front) else self.baselines
        return View("test" if rows[f"test_{self.quality}"].notna().any() else "valid", self.quality)

    @property
    def beaten(self) -> int:
        """The number of trials, where baselines beat all of them on validation, at their end or before; else 0."""
        return 0 if len(self.front) else int(self.trials["state"].isin(["FINISHED", "PRUNED"]).sum())

    @property
    def tolerance(self) -> float:
        """The share of the quality that may be lost by skipping: the tolerance, or what a bound such as
        ">= 0.98 * all" on the quality allows where that is more."""
        choose = (self.spec.get("search") or {}).get("choose") or {}
        bounds = _bounds(self.spec)
        allowed = [1 - bound.factor for bound in bounds if bound.limits(self.quality, ALL)]
        return max([float(choose.get("tolerance", ChooseConfig().tolerance)), *allowed])

    @property
    def filters(self) -> list[str]:
        """The parts of the filter rate that have a column."""
        return list(dict.fromkeys(name.partition("_")[2] for name in map(str, self.front) if "_filtered_by_" in name))

    def samples(self, split: Split) -> int | None:
        """The number of samples on which a row of the split was measured."""
        source = self.provenance.get("rehearsal") if split == "valid" and self.provenance.get("rehearsal") else None
        counts = (source or self.provenance.get("data") or {}).get("samples") or {}
        return counts.get(split)

    def run_address(self, run_id: Any) -> str:
        """The address of a run's page in MLflow; empty where the tracking server has no pages or is not recorded."""
        store = str(self.provenance.get("tracking") or "")
        if not run_id or not store.startswith(("http://", "https://")) or HIDDEN in store:
            return ""
        return f"{store.rstrip('/')}/#/runs/{run_id}"

    @property
    def items(self) -> int | None:
        return (self.provenance.get("data") or {}).get("items")


def load(directory: Path) -> Run:
    """Read and check the files of a search.

    Raises:
        UserError: the folder or one of its files is missing or unreadable, or the files contradict each other.
    """
    check_folder(directory)
    spec = mapping_of(directory / "spec.yaml", _SPECIFIED)
    if not isinstance(spec.get("space"), dict):
        raise damaged(directory / "spec.yaml", "space: given nothing", "a mapping of the searched parameters")
    objectives = _objectives(spec, directory / "spec.yaml")
    try:
        _bounds(spec)
    except (AttributeError, TypeError, ValueError) as error:
        raise damaged(directory / "spec.yaml", f"search.constraints: {error}", "bounds by metric") from error
    quality = quality_of(objectives)
    run = Run(
        spec=spec,
        objectives=objectives,
        provenance=mapping_of(directory / "provenance.json", _RECORDED),
        trials=_table(directory / "trials.csv", ("trial_id", "state", *spec["space"], *_MEASURED), spec["space"]),
        front=(front := _points(directory / "pareto.csv", spec["space"], quality)),
        baselines=_points(directory / "baselines.csv", spec["space"], quality),
        chosen=mapping_of(directory / "chosen.yaml", {"adapt"}) if len(front) else {},
        stream=_stream(directory / "stream.csv", quality),
        minutes=_minutes(directory),
    )
    if len(front) and str(run.chosen.get("trial_id")) not in set(front["trial_id"]):
        given = quoted(run.chosen.get("trial_id"))
        raise damaged(directory / "chosen.yaml", f"trial_id: given {given}", "the trial_id of a row of pareto.csv")
    return run


def _stream(path: Path, quality: QualityMetric) -> pd.DataFrame:
    """stream.csv; an older search has none."""
    columns = ("configuration", "samples", quality, "filter_rate")
    return _table(path, columns, {}) if path.exists() else pd.DataFrame(columns=list(columns))


def _minutes(directory: Path) -> dict[str, float]:
    """When each finished trial ended, by the journal."""
    trials = Records(directory).in_state(State.FINISHED)
    first = min((trial.began for trial in trials), default=0.0)
    return {trial.trial_id: (trial.ended - first) / 60 for trial in trials if trial.began and trial.ended}


def _objectives(spec: dict[str, Any], path: Path) -> tuple[str, ...]:
    objectives = (spec.get("search") or {}).get("objectives", SearchConfig().objectives)
    if not isinstance(objectives, list | tuple) or not set(QUALITY_METRICS) & set(map(str, objectives)):
        expected = f"filter_rate and one of {', '.join(QUALITY_METRICS)}"
        raise damaged(path, f"search.objectives: given {quoted(objectives)}", expected)
    return tuple(map(str, objectives))


def _bounds(spec: dict[str, Any]) -> list[constraint.Constraint]:
    return constraint.parsed((spec.get("search") or {}).get("constraints") or {})


def _points(path: Path, parameters: dict[str, Any], quality: QualityMetric) -> pd.DataFrame:
    """pareto.csv or baselines.csv with every test column; the numbers of validation must be there."""
    frame = _table(path, ("trial_id", *parameters, *(f"valid_{name}" for name in _MEASURED)), parameters)
    unmeasured = frame[f"valid_{quality}"].isna() | frame["valid_filter_rate"].isna()
    if unmeasured.any():
        name = frame["trial_id"][unmeasured].iloc[0]
        raise damaged(path, f"row {name}: nothing in valid_{quality} or valid_filter_rate", "a number in each")
    costs = (f"valid_{name}" for name in COSTS)
    tested = (
        *costs,
        *(f"test_{name}" for name in (*_MEASURED, *COSTS)),
        *differences.columns(quality),
        "on_test_front",
    )
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *tested])))
    for part in (name.partition("_")[2] for name in list(map(str, frame)) if "_filtered_by_" in name):
        for split in ("valid", "test"):
            # A part of the filter rate that is 0 in all rows has no column.
            if f"{split}_{part}" not in frame:
                frame[f"{split}_{part}"] = frame[f"{split}_filter_rate"] * 0.0
    return frame


def _table(path: Path, required: tuple[str, ...], parameters: dict[str, Any]) -> pd.DataFrame:
    """A CSV file with its measured columns as floats; a file without a row may lack the columns."""
    text = text_of(path)
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False) if text.strip() else pd.DataFrame()
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split())
        raise damaged(path, f"cannot be parsed ({reason})", "a table in CSV") from error
    if frame.empty:
        return _numbers(path, frame.reindex(columns=list(required)).astype(str), parameters)
    missing = [name for name in required if name not in frame]
    if missing:
        raise damaged(path, f"no column {', '.join(missing)}", f"the columns {', '.join(required)}")
    return _numbers(path, frame, parameters)


def _numbers(path: Path, frame: pd.DataFrame, parameters: dict[str, Any]) -> pd.DataFrame:
    words = ["trial_id", "state", "group", "mlflow_run_id", "error", "traceback", "source", "on_test_front"]
    words += ["configuration", differences.RIVAL]
    for name in frame.columns.difference(words):
        parsed = pd.to_numeric(frame[name].where(frame[name] != ""), errors="coerce").astype(float)
        wrong = parsed.isna() & (frame[name] != "")
        if not wrong.any():
            frame[name] = parsed
        elif name not in parameters:
            line = int(wrong.to_numpy().argmax())
            given = quoted(frame[name].iloc[line])
            raise damaged(path, f"row {line + 1}, column {name}: given {given}", "a number")
    return frame
