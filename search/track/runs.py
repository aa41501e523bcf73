"""The runs of one experiment in an MLflow store: searched, created, completed and deleted, one request at a time."""

from collections.abc import Callable, Mapping
from itertools import starmap

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from search.records.states import State
from search.track.store import milliseconds, user
from search.track.wanted import Copy, Difference, Wanted


class Runs:
    """The runs of the experiment with id `experiment`.

    answered: called after each answer of the store, with True if the request wrote something.
    """

    def __init__(self, client: MlflowClient, experiment: str, answered: Callable[[bool], None]):
        self.client, self.experiment, self.answered = client, experiment, answered

    def tagged(self, tag: str, value: str) -> list[Run]:
        """All runs that are not deleted and have a tag with this value."""
        runs: list[Run] = []
        token = None
        while True:
            query = f"tags.`{tag}` = '{value}'"
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            self.answered(False)
            runs += page
            token = page.token
            if not token:
                return runs

    def only(self, runs: list[Run], known: str) -> Copy | None:
        """The one with the id `known`, or else the oldest, of the runs of one trial or search; the others are deleted.

        A store that creates a run after the request has timed out ends up with several.
        """
        runs = sorted(runs, key=lambda run: (run.info.run_id != known, run.info.start_time, run.info.run_id))
        for extra in runs[1:]:
            for run in [*self.tagged(MLFLOW_PARENT_RUN_ID, extra.info.run_id), extra]:
                self.delete(run.info.run_id)
        return _copy(runs[0]) if runs else None

    def create(self, name: str, tags: Mapping[str, str], began: float) -> Copy:
        """A new run. began: seconds since 1970."""
        common = {MLFLOW_SOURCE_NAME: "search.tune", MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: user()}
        run = self.client.create_run(self.experiment, milliseconds(began), {**common, **tags}, run_name=name)
        self.answered(True)
        return _copy(run)

    def delete(self, run_id: str) -> None:
        """Delete a run, which MLflow keeps in its bin."""
        self.client.delete_run(run_id)
        self.answered(True)

    def move(self, run_id: str, parent: str) -> None:
        """Make a run a child of another parent run."""
        self.client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        self.answered(True)

    def complete(self, copy: Copy, wanted: Wanted) -> bool:
        """Write what a run lacks. True if it lacked anything."""
        lacking = list(copy.lacks(wanted))
        for batch in lacking:
            self.client.log_batch(copy.run_id, *_entities(batch))
            self.answered(True)
            copy.took(batch)
        unwanted = [key for key in wanted.unwanted if key in copy.tags]
        for key in unwanted:
            self.client.delete_tag(copy.run_id, key)
            self.answered(True)
            del copy.tags[key]
        in_state = copy.status == wanted.state
        if not in_state:
            self._set_state(copy, wanted)
        return bool(lacking or unwanted or not in_state)

    def _set_state(self, copy: Copy, wanted: Wanted) -> None:
        if wanted.state is State.RUNNING:
            self.client.update_run(copy.run_id, status=str(wanted.state))
        else:
            end = max(wanted.end, copy.began) if wanted.end else 0.0  # the clock may have been set back meanwhile
            self.client.set_terminated(copy.run_id, str(wanted.state), milliseconds(end))
        self.answered(True)
        copy.status = str(wanted.state)


def _copy(run: Run) -> Copy:
    info, data = run.info, run.data
    return Copy(
        info.run_id, info.start_time / 1000, info.status, dict(data.params), dict(data.metrics), dict(data.tags)
    )


def _entities(batch: Difference) -> tuple[list[Metric], list[Param], list[RunTag]]:
    metrics = [Metric(point.name, point.value, round(point.moment * 1000), point.step) for point in batch.metrics]
    return metrics, list(starmap(Param, batch.params.items())), list(starmap(RunTag, batch.tags.items()))
