"""The verdict on a search after kills: trials lost, duplicated, or different in journal, table, study and MLflow.

Every fault is a sentence that names the trial.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run

from search.records.records import Records
from search.records.states import ENDED, State
from search.records.trial import Trial
from search.running.suggest import Suggestions
from search.spec import Spec, objectives_of


@dataclass
class Verdict:
    """Faults by kind, a sentence each; a sound search has none."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    disagreeing: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.disagreeing)

    def add(self, other: "Verdict") -> None:
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.disagreeing += other.disagreeing


def ended_trials(directory: Path) -> dict[int, Trial]:
    """The trials whose end is in the journal, by number. They must stay there."""
    return {trial.number: trial for trial in Records(directory).in_state(*ENDED)}


def after_kill(directory: Path, before: dict[int, Trial]) -> Verdict:
    """The verdict before a search is resumed: no end in `before` may be missing, no configuration there twice."""
    now, found = ended_trials(directory), Verdict()
    for number, trial in before.items():
        kept = now.get(number)
        if kept is None or (kept.state, kept.metrics) != (trial.state, trial.metrics):
            found.lost.append(f"{trial.trial_id}: its end is no longer in the journal")
    found.duplicated += _twice(directory)
    return found


def after_search(directory: Path, spec: Spec, store: mlflow.MlflowClient, concurrency: int) -> Verdict:
    """The verdict on a finished search."""
    records, found = Records(directory), Verdict()
    trials = [records.trials[number] for number in sorted(records.trials)]
    missing = set(range(spec.search.budget)) - {trial.number for trial in trials if trial.state in ENDED}
    found.lost += [f"trial {number}: no end in the journal" for number in sorted(missing)]
    found.duplicated += _twice(directory)
    found.disagreeing += _table(directory, trials) + _study(spec, records, trials, concurrency)
    found.add(_mlflow(records, trials, _runs(store, spec.name)))
    return found


def _twice(directory: Path) -> list[str]:
    """Faults in the journal: a configuration with two numbers, a second end, or a start after the end."""
    texts: list[str] = []
    ended: set[int] = set()
    configurations: dict[str, int] = {}
    for line in (directory / "trials.jsonl").read_bytes().split(b"\n")[:-1]:
        event: dict[str, Any] = json.loads(line)
        number = event.get("number", -1)
        if event["event"] in ("started", "ended") and number in ended:
            texts.append(f"trial {number}: {event['event']} after its end")
        if event["event"] == "ended" and event["state"] in ENDED:
            ended.add(number)
        if event["event"] == "started":
            key = json.dumps(event["parameters"], sort_keys=True)
            if configurations.setdefault(key, number) != number:
                texts.append(f"trials {configurations[key]} and {number}: the same configuration")
    return texts


def _table(directory: Path, trials: list[Trial]) -> list[str]:
    table = pd.read_csv(directory / "trials.csv", keep_default_na=False)
    rows = {row["trial_id"]: row for row in table.to_dict("records")}
    texts = [f"{name}: {count} rows in trials.csv" for name, count in Counter(table.trial_id).items() if count > 1]
    if rows.keys() != {trial.trial_id for trial in trials}:
        texts.append("trials.csv has other trials than the journal")
    for trial in trials:
        row: dict[Any, Any] = rows.get(trial.trial_id, {})
        same = row.get("state") == str(trial.state) and row.get("mlflow_run_id") == trial.mlflow_run_id
        if not same or any(float(row[name]) != trial.metrics[name] for name in row.keys() & trial.metrics.keys()):
            texts.append(f"{trial.trial_id}: trials.csv differs from the journal")
    return texts


def _study(spec: Spec, records: Records, trials: list[Trial], concurrency: int) -> list[str]:
    """Faults in the study rebuilt from the records: it must suggest the measured configurations in their order."""
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    suggestions, texts = Suggestions(spec, concurrency, anchors), []
    for trial in trials:
        if suggestions.ask() != trial.parameters:
            return [*texts, f"{trial.trial_id}: the study suggests another configuration"]
        objectives = objectives_of(spec.search, trial.metrics) if trial.metrics else None
        suggestions.tell(trial.number, objectives, pruned=trial.state is State.PRUNED)
    suggestions.tell_rest()
    names = {"COMPLETE": State.FINISHED, "PRUNED": State.PRUNED, "FAIL": State.FAILED}
    states = [names.get(each.state.name) for each in suggestions.study.trials]
    return [f"{t.trial_id}: the study has {state}" for t, state in zip(trials, states, strict=True) if state != t.state]


def _mlflow(records: Records, trials: list[Trial], runs: list[Run]) -> Verdict:
    """Faults in MLflow: it must hold one parent run and one child run per trial, with the trial's state and numbers."""
    found = Verdict()
    parents = [run for run in runs if run.data.tags.get("etarec.search") == records.identity]
    found.duplicated += ["several parent runs"] * (len(parents) > 1)
    if [(run.info.run_id, run.info.status) for run in parents[:1]] != [(records.parent_run_id, "FINISHED")]:
        found.disagreeing.append("the parent run is not the one of the journal, or not FINISHED")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == records.parent_run_id]
    by_trial = {run.data.tags["trial_id"]: run for run in children}
    found.duplicated += ["several runs of one trial"] * (len(children) - len(by_trial))
    for trial in trials:
        run = by_trial.get(trial.trial_id)
        if run is None:
            found.lost.append(f"{trial.trial_id}: no run in MLflow")
        elif (run.info.run_id, run.info.status) != (trial.mlflow_run_id, str(trial.state)):
            found.disagreeing.append(f"{trial.trial_id}: {run.info.status} in MLflow, {trial.state} in the journal")
        elif any(run.data.metrics.get(name, 0.0) != value for name, value in trial.metrics.items()):  # no idle metrics
            found.disagreeing.append(f"{trial.trial_id}: other numbers in MLflow")
    return found


def _runs(store: mlflow.MlflowClient, experiment: str) -> list[Run]:
    found = store.get_experiment_by_name(experiment)
    return [] if found is None else list(store.search_runs([found.experiment_id], max_results=10_000))
