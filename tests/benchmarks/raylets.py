"""(l) Whole searches of trials that sleep on real raylets, against the number of trials at once.

Each search is a process of its own; this module run as a program is one such search.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil

from etarec.config import AdaptConfig
from search.records.records import Records
from search.running import runner
from search.running.plan import GIB, MEMORY_SHARE, WORKER_BYTES, Plan
from search.selection.paired import Outcomes
from search.spec import Spec
from search.subject import Job
from tests.benchmarks.driver import AT_ONCE, WAVES, cpu, spec_of
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.light_worker import Asleep, LightWorker
from tests.benchmarks.pacing import Sleeping
from tests.benchmarks.throughput import environment
from tests.search.formula import Formula

ON_RAYLETS = (8, 16, *AT_ONCE)
LIGHT_BYTES = 150 * 2**20  # of a worker without torch
SECONDS = (1.0, 10.0)
SHARE = 0.01  # of a CPU that a trial reserves
PUT = 2**28  # bytes of the object that is put into the object store


def scaling(settings: Settings) -> Table:
    """Whole searches on real raylets."""
    sizes, lengths = ((2,), (0.2,)) if settings.quick else (ON_RAYLETS, SECONDS)
    kinds = (("TrialWorker", WORKER_BYTES), ("LightWorker", LIGHT_BYTES))
    rows = [_row(*kind, seconds, size) for kind in kinds for seconds in lengths for size in sizes]
    return Table(
        "(l) Trials per minute against trials at once",
        f"Searches of trials that sleep and reserve {SHARE:g} of a CPU, on Ray processes of this machine, {WAVES} "
        "trials for each that runs at once. The first wave, in which the workers start, does not count; `ideal` is the "
        "rate without any cost. The driver is the process with Tune, sampler and journal; Ray's processes are its "
        f"server and raylet, without the workers. A worker of a search takes {WORKER_BYTES / GIB:.2f} GiB, most of it "
        f"for torch; a light worker only sleeps, answers as the other does and takes {LIGHT_BYTES / GIB:.2f} GiB. Rows "
        "that do not fit into free memory are left out. `on test` is the driver's CPU time of a measurement after the "
        f"search, `put` that of an object of {PUT // 2**20} MiB in the object store.",
        ["worker", "a trial", "at once", "trials/min", "of ideal", "driver ms", "Ray ms", "on test ms", "put ms", ""],
        rows,
    )


def _row(kind: str, size: int, seconds: float, at_once: int) -> list[Cell]:
    name: list[Cell] = [kind, f"sleeps {seconds:g} s", at_once]
    need, free = at_once * size / GIB, psutil.virtual_memory().available * MEMORY_SHARE / GIB
    if need > free:
        return [*name, *[None] * 6, f"needs {need:.0f} GiB, {free:.0f} are free"]
    with tempfile.TemporaryDirectory() as folder:
        program = f"from {__name__} import search; search()"
        command = [sys.executable, "-c", program, folder, str(seconds), str(at_once), kind]
        subprocess.run(command, check=True, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(Path(folder, "found.json").read_text())
    rate = found["trials a minute"]
    ideal = 60 * at_once / seconds
    return [*name, rate, f"{rate / ideal:.0%}", *(found.get(key) for key in ("driver", "ray", "test", "put")), ""]


def search() -> None:
    """The program of a row: DIR SECONDS AT_ONCE WORKER."""
    folder, seconds, at_once, kind = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    spec = spec_of(folder, trials=WAVES * at_once, concurrency=at_once, cpus_per_trial=SHARE)
    with _workers(kind), runner.cluster(spec.search, None) as plan:
        records = Records(folder)
        subject = _asleep(seconds) if kind == "LightWorker" else Sleeping(seconds, folder / "begun", sys.maxsize, None)
        searching = cpu(lambda: runner.run_search(spec, subject, records, plan, lambda trial: None))
        found = {"driver": searching["driver"] / len(records.trials), "ray": searching["ray"] / len(records.trials)}
        found |= {"trials a minute": _rate(records, at_once), "put": _put()}
        if isinstance(subject, Sleeping):
            found["test"] = _test(spec, subject, plan)
    (folder / "found.json").write_text(json.dumps(found))


@contextmanager
def _workers(kind: str) -> Iterator[None]:
    """Trials run in workers of this kind. Light ones start no processes for measurements on test, which need torch."""
    if kind != "LightWorker":
        yield
        return
    with patch.object(runner, "TrialWorker", LightWorker), patch("search.running.searcher.start_processes"):
        yield


def _asleep(seconds: float) -> Asleep:
    """A light trial that reports as much as a measurement of the formula."""
    measured = Formula().measure(AdaptConfig(), "valid", 0)
    outcomes = Outcomes.of(measured.ranks, measured.admitted).text()
    return Asleep(seconds, {"metrics": measured.metrics(), "curve": measured.curve("hr_at_10"), "outcomes": outcomes})


def _rate(records: Records, at_once: int) -> float:
    """Trials per minute after the first wave."""
    ends = sorted(trial.ended for trial in records.trials.values())
    return 60 * (len(ends) - at_once) / (ends[-1] - ends[at_once - 1])


def _test(spec: Spec, subject: Sleeping, plan: Plan) -> float:
    """The driver's CPU milliseconds of a measurement after the search."""
    jobs = [Job(spec.adapt, number) for number in range(2 * plan.concurrency)]
    measured = cpu(lambda: list(runner.measure_all(subject, jobs, plan, print, on_test=True)))
    return measured["driver"] / len(jobs)


def _put() -> float:
    import ray

    whole = np.zeros(PUT, np.uint8)
    return cpu(lambda: ray.put(whole))["driver"]
