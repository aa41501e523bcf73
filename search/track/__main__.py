"""Copies the files of a search to MLflow, whatever the store holds of it already: `python -m search.track DIR`.

A second run changes nothing. A trial that was running when its search was cut off ends as KILLED, in the files too.
"""

import csv
import math
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from etarec.command_line import command_parser, exit_status, is_disk_fault
from etarec.config import UserError
from etarec.document import quoted
from search.records.journal import JOURNAL, held, holds_search
from search.records.records import Records
from search.records.result_files import check_folder, damaged, mapping_of
from search.records.states import ENDED, PARENT_STATES, State
from search.records.trials_table import METRICS
from search.redact import of_error
from search.selection.area import AREAS
from search.track.mirror import Mirror
from search.track.store import first_line, store_address
from search.track.wanted import Outcome

ATTEMPTS, RETRY_SECONDS = 3, 2.0
CUT_OFF = "the search was cut off"


@exit_status("interrupted; the runs written so far stay, and the same command writes the rest", redact=of_error)
def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, 2 for what the user can fix, 130 for Ctrl-C."""
    parser = command_parser("search.track", "Copy the files of a search to MLflow; a second run changes nothing.")
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder of a search, such as runs/demo")
    directory = parser.parse_args(arguments).directory.absolute()
    print(summary(*track(directory)))
    return 0


def track(directory: Path) -> tuple[Records, Mirror]:
    """Write the part of the search that is missing in the store named by MLFLOW_TRACKING_URI.

    Raises:
        UserError: the folder holds no search, a running one or damaged files, or the store refuses or is unreachable.
    """
    check_folder(directory)
    if not holds_search(directory):
        raise UserError(f"{directory}: no {JOURNAL}, expected the folder of a search, such as runs/demo")
    try:
        with held(directory):
            return _track(directory)
    except OSError as error:
        if is_disk_fault(error):
            raise
        file = error.filename or directory
        raise UserError(f"{file}: {error.strerror}, expected a file that this user can read and write") from error


def _track(directory: Path) -> tuple[Records, Mirror]:
    records = Records(directory)
    if not records.identity:
        journal = directory / JOURNAL
        raise UserError(f"{journal}: no search has begun in it, expected its trials; start it with `search.tune`")
    spec = _spec(directory)
    outcome = read_outcome(directory, records)
    for trial in records.in_state(State.RUNNING):
        records.ended(trial.number, State.KILLED, CUT_OFF)
    mirror = Mirror(str(spec["name"]), records, spec)
    for attempt in range(ATTEMPTS):
        try:
            mirror.end(outcome)
            return records, mirror
        except (UserError, OSError):
            raise
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                raise UserError(
                    f"MLflow at {store_address()} cannot be reached ({first_line(error)}); expected a store that "
                    "MLFLOW_TRACKING_URI names; the same command writes the rest when the store is back"
                ) from error
            time.sleep(RETRY_SECONDS)
    raise AssertionError("unreachable")


def read_outcome(directory: Path, records: Records) -> Outcome:
    """The end of the search, read from its files; KILLED where the files do not tell."""
    file, chosen = directory / "provenance.json", directory / "chosen.yaml"
    about = mapping_of(file, {"search"}) if file.exists() else {}
    search = about.get("search") or {}
    counts = {state: len(records.in_state(state)) for state in (*ENDED, State.KILLED)}
    whole = {state: search.get(state.lower()) or 0 for state in counts} == counts and not records.in_state(
        State.RUNNING
    )
    return Outcome(
        state=PARENT_STATES[search["ending"]] if whole and search.get("ending") in PARENT_STATES else State.KILLED,
        metrics={name: float(search[name]) for name in AREAS if isinstance(search.get(name), int | float)},
        front=_front(directory / "pareto.csv", records),
        artifacts=directory,
        chosen=mapping_of(chosen) if chosen.exists() else {},
        moment=_finished(about) or max((trial.ended or trial.began for trial in records.snapshot()), default=0.0),
    )


def summary(records: Records, mirror: Mirror) -> str:
    """Two lines that say what was written."""
    counts = {state: len(records.in_state(state)) for state in (*ENDED, State.KILLED)}
    trials = ", ".join(f"{count} {state.lower()}" for state, count in counts.items() if count) or "none"
    made, mended = len(mirror.created), len(mirror.changed - mirror.created)
    done = f"{made} runs created, {mended} brought up to date" if made or mended else "nothing was missing"
    return f"MLflow      experiment '{mirror.experiment}' in {store_address()}: {done}\ntrials      {trials}"


def _spec(directory: Path) -> dict[str, Any]:
    spec = mapping_of(directory / "spec.yaml")
    if not isinstance(spec.get("name"), str):
        raise damaged(directory / "spec.yaml", f"name: given {quoted(spec.get('name'))}", "the search's name")
    return spec


def _finished(about: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(about.get("finished"))).timestamp()
    except ValueError:
        return 0.0


def _front(path: Path, records: Records) -> dict[str, dict[str, float]] | None:
    """Test metrics of the front's trials, None without a front. A metric without a column was 0 in every row."""
    if not path.exists():
        return None
    known = {trial.trial_id for trial in records.snapshot()}
    front: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row.get("trial_id") or ""
            if name not in known:
                raise damaged(path, f"trial_id: given {quoted(name)}", f"the id of a trial in {JOURNAL}")
            tested = row.get("test_filter_rate") not in (None, "")
            front[name] = {metric: _number(path, row, f"test_{metric}") for metric in METRICS} if tested else {}
    return {name: {m: v for m, v in metrics.items() if math.isfinite(v)} for name, metrics in front.items()}


def _number(path: Path, row: dict[str, str], column: str) -> float:
    text = row.get(column, "0")
    try:
        return float(text) if text else math.nan
    except (TypeError, ValueError) as error:
        raise damaged(path, f"row {row['trial_id']}, column {column}: given {quoted(text)}", "a number") from error


if __name__ == "__main__":
    sys.exit(main())
