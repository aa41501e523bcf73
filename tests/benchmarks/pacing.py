"""(h) Trials per minute with and without each workaround of search/running/pacing.py.

One process with one Ray cluster runs all searches of a length; this module run as a program is one such process.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import yaml

from etarec.config import AdaptConfig, SplitName
from etarec.evaluate import Measurement
from search.records.records import Records
from search.running import pacing as paced
from search.running import runner
from search.running.plan import Plan
from search.spec import SearchConfig, load
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.throughput import SPACE, environment
from tests.benchmarks.timing import Ratio
from tests.search.formula import Formula

CONCURRENCY, ROUNDS = 2, 5
TRIALS = {2.0: 24, 0.1: 160}  # by the seconds of one
QUICK = {2.0: 8, 0.1: 24}

KILL = "With a kill, one worker dies after a quarter of the trials, and its trial is repeated by another one. "

# A workaround -> the class and the method that make it, and what stands there without it.
WORKAROUNDS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "idle workers are kept": (paced.IdleWorkersScheduler, "_keep_idle_workers", lambda scheduler, controller: None),
    "workers are held for those that start": (paced.Pacing, "_starting", lambda callback, trials: False),
}
VARIANTS = {"all workarounds": (), **{f"not: {name}": (name,) for name in WORKAROUNDS}, "none": tuple(WORKAROUNDS)}


@dataclass(frozen=True)
class Sleeping:
    """Sleeps half to one and a half times `seconds`, by the configuration.

    killed: a folder that the first process to measure `after` trials makes before it kills itself, or None.
    """

    seconds: float
    log: Path
    after: int
    killed: Path | None

    def measure(self, config: AdaptConfig, split: SplitName, seed: int) -> Measurement:
        with self.log.open("a") as file:
            file.write("begun\n")
        if self.killed and len(self.log.read_text().splitlines()) > self.after and not self.killed.exists():
            self.killed.mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
        digest = hashlib.sha256(f"{config.top_k} {config.entropy_quantile!r}".encode()).digest()
        time.sleep(self.seconds * (0.5 + digest[0] / 255))
        return Formula().measure(config, split, seed)

    def without_test(self) -> "Sleeping":
        return self


def pacing(settings: Settings) -> Table:
    trials, rounds, kills = (QUICK, 1, [False]) if settings.quick else (TRIALS, ROUNDS, [False, True])
    rows = [row for seconds, count in trials.items() for row in _rows(seconds, count, rounds, kills)]
    counts = " and ".join(f"{count} of {seconds:g} s" for seconds, count in trials.items())
    return Table(
        "(h) Trials per minute with and without the workarounds for Ray Tune",
        f"A search of trials that sleep, {CONCURRENCY} at once ({counts} on average, each between half and one and a "
        "half times as long), from the first suggestion to the last recorded end, so that the workers' start counts. "
        f"{KILL if True in kills else ''}Medians over {rounds} round{'s' * (rounds > 1)} in which the searches take "
        "turns; the gain is that of all workarounds over the row, pair by pair. search/running/pacing.py says what "
        "each workaround does.",
        ["a trial", "workarounds", "trials/min", "gain", "trials/min, a kill", "gain, a kill"][: 2 + 2 * len(kills)],
        rows,
    )


def _rows(seconds: float, trials: int, rounds: int, kills: list[bool]) -> list[list[Cell]]:
    measured = [_measured(seconds, trials, rounds, kill) for kill in kills]
    rows: list[list[Cell]] = []
    for variant in VARIANTS:
        cells: list[Cell] = [f"{seconds:g} s", variant]
        for rates in measured:
            ratios = [full / rate for full, rate in zip(rates["all workarounds"], rates[variant], strict=True)]
            cells += [median(rates[variant]), str(Ratio(median(ratios), min(ratios), max(ratios)))]
        rows.append(cells)
    return rows


def _measured(seconds: float, trials: int, rounds: int, kill: bool) -> dict[str, list[float]]:
    """Trials per minute of every round, by the variant."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(seconds), str(trials), str(rounds), str(int(kill))]
        command = [sys.executable, "-c", f"from {__name__} import searches; searches()", *arguments]
        subprocess.run(command, check=True, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        return json.loads(Path(folder, "rates.json").read_text())


def searches() -> None:
    """The program of one length: DIR SECONDS TRIALS ROUNDS KILL."""
    folder, seconds, trials, rounds, kill = sys.argv[1:]
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with runner.cluster(SearchConfig(concurrency=CONCURRENCY), None) as plan:
        for number in range(int(rounds)):
            for variant in VARIANTS if number % 2 == 0 else reversed(VARIANTS):
                with _without(*VARIANTS[variant]):
                    rates[variant].append(_rate(Path(folder), plan, float(seconds), int(trials), kill == "1"))
    Path(folder, "rates.json").write_text(json.dumps(rates))


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Switches workarounds off. Processes for later measurements are not started: the next search would take them."""
    patches = [patch.object(*WORKAROUNDS[name]) for name in names]
    patches.append(patch("search.running.searcher.start_processes", lambda plan: None))
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def _rate(base: Path, plan: Plan, seconds: float, trials: int, kill: bool) -> float:
    """Trials per minute of one search."""
    folder = Path(tempfile.mkdtemp(dir=base))
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"space": SPACE, "search": {"trials": trials, "concurrency": CONCURRENCY}}))
    records = Records(folder)
    subject = Sleeping(seconds, folder / "begun", trials // 4, folder / "killed" if kill else None)
    runner.run_search(load(file), subject, records, plan, lambda trial: None)
    ended = records.trials.values()
    return 60 * trials / (max(trial.ended for trial in ended) - min(trial.began for trial in ended))
