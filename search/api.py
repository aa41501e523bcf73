"""A search from Python: what `python -m search.tune` does, as calls for a notebook or a script.

    import search

    spec = search.load("mine.yaml", "search.trials=32")
    result = search.run(spec)
    result.front, result.chosen, result.report

Ray's workers import modules and never run the calling script again, so a script needs no `__main__` guard.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from etarec.config import UserError
from etarec.document import read_yaml
from search import spec as experiment_file
from search.records.folder import check_directory, default_directory
from search.report import files
from search.running.address import use_cluster_token
from search.running.signals import signals_as_before
from search.spec import Spec

if TYPE_CHECKING:
    from etarec.serving import Baseline, Recommender


@dataclass(frozen=True)
class Result:
    """A finished search, read from its folder when it is asked. README.md describes the files.

    Raises UserError where a file is missing or damaged.
    """

    directory: Path

    @property
    def spec(self) -> Spec:
        """The resolved experiment."""
        return experiment_file.load(self.directory / "spec.yaml")

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial, failed ones included: trials.csv."""
        return self._files.trials

    @property
    def front(self) -> pd.DataFrame:
        """A row per point of the Pareto front, on validation and on test: pareto.csv."""
        return self._files.front

    @property
    def baselines(self) -> pd.DataFrame:
        """A row per baseline, with the columns of `front`: baselines.csv."""
        return self._files.baselines

    @property
    def chosen(self) -> dict[str, Any]:
        """The verdict and the chosen configuration: chosen.yaml. Its `adapt` are the fields of AdaptConfig."""
        return read_yaml(self.directory / "chosen.yaml")

    @property
    def report(self) -> Path:
        """The report, one HTML page that works offline."""
        return self.directory / "report.html"

    def recommender(self, baseline: "Baseline | None" = None) -> "Recommender":
        """The chosen configuration or a baseline, ready to serve from its checkpoint: `etarec.serving.load`."""
        from etarec import serving  # only who serves needs it

        return serving.load(self.directory, baseline=baseline)

    @property
    def _files(self) -> files.Run:
        return files.load(self.directory)


def load(file: str | Path, *overrides: str) -> Spec:
    """The experiment in a YAML file. `overrides` are the texts `key.path=value` of `--set`.

    Raises UserError with every problem of the file, a line each.
    """
    return experiment_file.load(Path(file), overrides)


def run(
    spec: Spec,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    resume: bool = False,
    accept_changes: bool = False,
) -> Result:
    """Search, measure the front and the baselines on test once, and write the report.

    Args:
        spec: the experiment; its `table` is ignored.
        out: output folder; by default runs/NAME, or runs/NAME-2 beside earlier searches.
        address: a running Ray cluster, `auto` or HOST:PORT; by default one of this machine's own, for this search.
        resume: finish the search in the output folder.
        accept_changes: with `resume`, go on although spec, data, checkpoint or code have changed.

    Raises:
        UserError: a problem that the user can fix. KeyboardInterrupt: Ctrl-C, or a notebook's interrupt; what was
            measured is on disk, and `resume` goes on from there. RuntimeError: no trial finished, or too many in a row
            failed.
    """
    directory = Path(out).absolute() if out is not None else default_directory(spec.name, resume)
    check_directory(directory, resume)
    if accept_changes and not resume:
        raise UserError("accept_changes: there is nothing to accept without resume")
    use_cluster_token(address)
    from search import experiment, prepare  # they import Ray, which reads the token's mode once
    from search.records.states import Ending

    search = experiment.Experiment(replace(spec, table=None), directory, address, resume, None, accept_changes)
    with signals_as_before():
        subject = prepare.prepare(search)
        ending = experiment.run(search, subject, subject.data.n_items - 1)
    if ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if not ending.whole:
        raise RuntimeError(f"{ending}; {directory / 'trials.csv'} has the reasons")
    return Result(directory)
