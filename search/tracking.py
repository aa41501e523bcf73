"""MLflow: one parent run per search, one child run per trial. The only file that knows MLflow.

The store is a copy of the records. `Tracker` brings it up to them in a thread of its own, so that a slow or absent
tracking server never holds up a trial; what could not be written is written when the server is back.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from search.records import Records, State, Trial

logging.getLogger("mlflow").setLevel(logging.ERROR)  # what matters to the user is said by `warn`

# MLflow's own retries take minutes, in which the end of a search would wait for a server that is away.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

RETRY_SECONDS = 5.0
PARAMS_PER_BATCH = 100  # MLflow takes no more at once
SEARCH_TAG = "etarec.search"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the pages that MLflow's UI opens it with
SOURCE_TAGS = {"mlflow.source.name": "search.tune", "mlflow.source.type": "LOCAL"}
_ENDED = (State.FINISHED, State.FAILED, State.KILLED)


class Tracker:
    """Mirrors the records of one search. All public methods return at once, except `close`."""

    def __init__(self, experiment: str, records: Records, parameters: Mapping[str, Any], warn: Callable[[str], None]):
        self.experiment, self.records, self.parameters, self.warn = experiment, records, parameters, warn
        self._client: mlflow.MlflowClient | None = None
        self._experiment_id = ""
        self._run_ids: dict[str, str] = {}  # by trial id
        self._ended: dict[str, str] = {}  # states of the runs that the store holds to their end, by trial id
        self._written: dict[int, State] = {}
        self._warned = False
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._mirror, name="mlflow", daemon=True)
        self._changed.set()
        self._thread.start()

    def update(self) -> None:
        """The records have changed."""
        self._changed.set()

    def close(
        self,
        state: State,
        metrics: Mapping[str, float],
        front: Mapping[str, Mapping[str, float]],
        artifacts: Path | None,
        patience: float = 60.0,
    ) -> bool:
        """Writes all that is left and ends the parent run; False if the store stays out of reach for `patience` s.

        front: test metrics of each front trial, by trial id. artifacts: folder whose files go to the parent run.
        """
        self._stop.set()
        self._changed.set()
        self._thread.join()
        deadline = time.monotonic() + patience
        while True:
            try:
                self._write_trials()
                self._write_front(front)
                self._end_parent(state, metrics, artifacts)
                return True
            except Exception as error:
                if time.monotonic() > deadline:
                    self.warn(
                        f"MLflow cannot be reached ({_first_line(error)}); the files in the output folder are complete"
                    )
                    return False
                time.sleep(min(RETRY_SECONDS, patience))

    def _mirror(self) -> None:
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                self._write_trials()
            except Exception as error:
                if not self._warned:
                    self.warn(f"MLflow cannot be reached ({_first_line(error)}); measuring goes on, it is tried again")
                    self._warned = True
                self._changed.set()
                self._stop.wait(RETRY_SECONDS)

    def _connected(self) -> mlflow.MlflowClient:
        """The client, with the experiment, the parent run and what a search that was cut off left behind."""
        if self._client is None:
            client = mlflow.MlflowClient()
            found = client.get_experiment_by_name(self.experiment)
            self._experiment_id = (
                found.experiment_id if found else client.create_experiment(self.experiment, tags=EXPERIMENT_TAGS)
            )
            self._connect_parent(client)
            children = self._children(client)
            self._run_ids = {trial_id: run.info.run_id for trial_id, run in children.items()}
            self._ended = {trial_id: run.info.status for trial_id, run in children.items() if run.info.status in _ENDED}
            self._client = client
        return self._client

    def _connect_parent(self, client: mlflow.MlflowClient) -> None:
        """A run may have been created and the process killed before the records knew: the tag finds it."""
        identity = self.records.identity
        found = client.search_runs([self._experiment_id], f"tags.`{SEARCH_TAG}` = '{identity}'", max_results=1)
        if found:
            run = found[0]
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = client.create_run(self._experiment_id, run_name="search", tags={SEARCH_TAG: identity, **SOURCE_TAGS})
        run_id = run.info.run_id
        _log_params(client, run_id, {k: v for k, v in self.parameters.items() if k not in run.data.params})
        if run_id != self.records.parent_run_id:
            self.records.parent_tracked(run_id)

    def _children(self, client: mlflow.MlflowClient) -> dict[str, Run]:
        """Runs of the trials that the store knows, by trial id."""
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.records.parent_run_id}'"
        runs: list[Run] = []
        token = None
        while True:
            page = client.search_runs([self._experiment_id], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return {run.data.tags["trial_id"]: run for run in runs}

    def _write_trials(self) -> None:
        client = self._connected()
        for number, trial in sorted(self.records.trials.copy().items()):
            if self._written.get(number) != trial.state:
                state = trial.state
                self._write_trial(client, trial, state)
                self._written[number] = state

    def _write_trial(self, client: mlflow.MlflowClient, trial: Trial, state: State) -> None:
        run_id = self._run_ids.get(trial.trial_id)
        if run_id is None:
            tags = {MLFLOW_PARENT_RUN_ID: self.records.parent_run_id, "trial_id": trial.trial_id, **SOURCE_TAGS}
            run_id = client.create_run(self._experiment_id, run_name=trial.trial_id, tags=tags).info.run_id
            self._run_ids[trial.trial_id] = run_id
        elif state is State.RUNNING:
            client.update_run(run_id, status="RUNNING")
            self._ended.pop(trial.trial_id, None)
        if run_id != trial.mlflow_run_id:
            self.records.tracked(trial.number, run_id)
        if self._ended.get(trial.trial_id) == state:
            return  # before this process; once more would double its curves and move its end
        _log_params(client, run_id, trial.parameters)
        if state is State.FINISHED:
            _forget_reasons(client, run_id)
        if state in _ENDED:
            client.log_batch(run_id, metrics=_metrics(trial), tags=_reasons(trial))
            client.set_terminated(run_id, str(state))

    def _write_front(self, front: Mapping[str, Mapping[str, float]]) -> None:
        client = self._connected()
        runs = {trial.trial_id: trial.mlflow_run_id for trial in self.records.trials.values()}
        for trial_id, run in self._children(client).items():
            if trial_id not in front and "pareto" in run.data.tags:  # of this search before it was resumed
                client.delete_tag(run.info.run_id, "pareto")
        for trial_id, metrics in front.items():
            now = int(time.time() * 1000)
            tested = [Metric(f"test_{name}", value, now, 0) for name, value in metrics.items()]
            client.log_batch(runs[trial_id], metrics=tested, tags=[RunTag("pareto", "true")])

    def _end_parent(self, state: State, metrics: Mapping[str, float], artifacts: Path | None) -> None:
        client, run_id = self._connected(), self.records.parent_run_id
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        for file in sorted(artifacts.iterdir()) if artifacts else []:
            if file.is_file() and not file.name.startswith("."):
                client.log_artifact(run_id, str(file))
        client.set_terminated(run_id, str(state))


def _forget_reasons(client: mlflow.MlflowClient, run_id: str) -> None:
    """Why a trial was cut off is no longer true when it has finished after all."""
    for name in {"error", "traceback"} & client.get_run(run_id).data.tags.keys():
        client.delete_tag(run_id, name)


def _log_params(client: mlflow.MlflowClient, run_id: str, parameters: Mapping[str, Any]) -> None:
    """May be repeated with the same values."""
    params = [Param(name, "null" if value is None else str(value)) for name, value in parameters.items()]
    for start in range(0, len(params), PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_PER_BATCH])


def _metrics(trial: Trial) -> list[Metric]:
    """Final metrics, and the curves along the stream with the samples served as step."""
    now = int(time.time() * 1000)
    final = [Metric(name, value, now, 0) for name, value in trial.metrics.items()]
    steps = trial.curve.get("samples", [])
    along = [
        Metric(f"stream_{name}", value, now, int(step))
        for name, values in trial.curve.items()
        if name != "samples"
        for step, value in zip(steps, values, strict=True)
    ]
    return final + along


def _reasons(trial: Trial) -> list[RunTag]:
    texts = {"error": trial.error, "traceback": trial.traceback}
    return [RunTag(name, text[-5000:]) for name, text in texts.items() if text]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
