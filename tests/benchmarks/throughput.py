"""(e) Trials per minute against concurrency, and the cost of the harness itself.

Each row is a process of its own, which runs a whole search, with imports, Ray, Optuna, MLflow, test and report, of a
subject with a known duration. `search` is the program of a row.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from etarec.config import AdaptConfig, SplitName
from etarec.evaluate import Measurement
from tests.benchmarks.frame import Cell, Settings, Table
from tests.search.formula import Formula

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
# Kind of trial, trials at once and number of trials: 64, fewer where that would take minutes.
RUNS = [("sleeps", 1, 16), ("sleeps", 2, 64), ("sleeps", 4, 64), ("sleeps", 8, 64)]
RUNS += [("computes", 1, 16), ("computes", 2, 64)]
SPACE = {
    "top_k": {"low": 2, "high": 500, "log": True},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}


@dataclass(frozen=True)
class Fixed:
    """Measurements that take `seconds` of sleep or of CPU time, a quarter of it on test; `log` gets a line for each."""

    seconds: float
    busy: bool
    log: Path

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        begin, seconds = time.time(), self.seconds if split == "valid" else self.seconds / 4
        if self.busy:
            _compute(seconds)
        else:
            time.sleep(seconds)
        measured = Formula().measure(config, split, seed)
        with self.log.open("a") as file:
            file.write(f"{begin} {time.time()}\n")
        return measured

    def without_test(self) -> "Fixed":
        return self


def _compute(seconds: float) -> None:
    matrix, begin = torch.ones(256, 256), time.process_time()
    while time.process_time() - begin < seconds:
        matrix @ matrix


def throughput(settings: Settings) -> Table:
    runs, seconds = ([("sleeps", 2, 8)], 0.2) if settings.quick else (RUNS, SECONDS)
    cores = os.cpu_count() or 1
    rows = [_row(*run, seconds) for run in runs]
    return Table(
        "(e) Trials per minute against concurrency",
        f"Each row is a whole search by `search.experiment` with trials of {seconds:g} seconds, on {cores} cores. A "
        f"trial that sleeps shows the harness alone; one that computes needs {seconds:g} seconds of CPU and competes "
        "with the driver, and with other trials if these outnumber the cores. The search lasts from the first "
        "suggestion to the last recorded end, the command from the start of its process to the end of its report, "
        "with the measurements of the baselines and on test. The harness's share of either is the part of its wall "
        "time that is not measuring (the seconds of all measurements, divided by the trials at once). A measurement on "
        "test takes a quarter as long.",
        [
            "a trial",
            "at once",
            "trials",
            "trials/min",
            "search s",
            "harness, search",
            "harness, command",
        ],
        rows,
    )


def _row(kind: str, concurrency: int, trials: int, seconds: float) -> list[Cell]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(concurrency), str(trials), str(seconds), kind]
        begin = time.time()
        command = [sys.executable, "-c", f"from {__name__} import search; search()", *arguments]
        subprocess.run(command, check=True, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        whole = time.time() - begin
        began, ended = json.loads(Path(folder, "search.json").read_text())
        lines = Path(folder, "measured").read_text().splitlines()
    times = [(float(first), float(last)) for first, last in (line.split() for line in lines)]
    trial_times = [last - first for first, last in times if last <= ended]
    search = ended - began
    searching, measuring = sum(trial_times) / concurrency, sum(last - first for first, last in times) / concurrency
    return [
        f"{kind} {seconds:g} s",
        concurrency,
        trials,
        60 * trials / search,
        search,
        f"{1 - searching / search:.1%}",
        f"{1 - measuring / whole:.1%}",
    ]


def environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return environment


def search() -> None:
    """The program of one row: DIR CONCURRENCY TRIALS SECONDS sleeps|computes."""
    from search import experiment
    from search.records import records
    from search.spec import load

    folder, concurrency, trials, seconds, kind = sys.argv[1:]
    times: list[float] = []

    class Timed(records.Records):
        """Records that note the time of the first suggestion and of each end on disk."""

        def started(self, *arguments: object) -> None:
            times.append(time.time())
            super().started(*arguments)  # type: ignore[arg-type]

        def finished(self, *arguments: object) -> None:
            super().finished(*arguments)  # type: ignore[arg-type]
            times.append(time.time())

    experiment.Records = Timed  # type: ignore[misc]
    file = Path(folder, "space.yaml")
    options = {"trials": int(trials), "concurrency": int(concurrency)}
    file.write_text(yaml.safe_dump({"name": "throughput", "space": SPACE, "search": options}))
    subject = Fixed(float(seconds), kind == "computes", Path(folder, "measured"))
    experiment.run(experiment.Experiment(load(file), Path(folder, "out")), subject, n_items=1000)
    Path(folder, "search.json").write_text(json.dumps([times[0], times[-1]]))
