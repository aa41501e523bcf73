"""(i) What the driver of a search can carry, against the number of trials at once.

`scaling` runs searches of trials that sleep on real raylets, each in a process of its own; this module run as a program
is one such search. `parts` measures the driver's work without workers, so that it needs no memory for them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import yaml

from etarec.config import AdaptConfig
from search.records.records import Records
from search.records.trials_table import METRICS
from search.running import runner
from search.running.learning import lag
from search.running.plan import GIB, MEMORY_SHARE, WORKER_BYTES, Plan
from search.running.suggest import MOST_MODELLED, Suggestions
from search.spec import Spec, load, objectives_of, trial_config
from search.subject import Job
from search.surrogate.cube import Cube
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.pacing import Sleeping
from tests.benchmarks.throughput import SPACE, environment
from tests.search.formula import Formula, trade_off

AT_ONCE = (64, 256, 1024)
ON_RAYLETS = (8, 16, *AT_ONCE)
SECONDS = (1.0, 10.0)
SHARE = 0.01  # of a CPU that a trial reserves
WAVES = 3  # of trials; the first one, in which workers start, does not count
PUT = 2**28  # bytes of the object that is put into the object store
MODELLED = MOST_MODELLED - 20  # results of a suggestion by the model
LOGGED = 24  # trials that are copied to MLflow
DRAWN = 3  # suggestions, of which the median counts


def scaling(settings: Settings) -> Table:
    """Whole searches on real raylets."""
    sizes, lengths = ((2,), (0.2,)) if settings.quick else (ON_RAYLETS, SECONDS)
    return Table(
        "(i) Trials per minute against trials at once",
        f"Searches of trials that sleep and reserve {SHARE:g} of a CPU, on Ray processes of this machine, {WAVES} "
        "trials for each that runs at once. The first wave, in which the workers start, does not count; `ideal` is the "
        "rate without any cost. The driver is the process with Tune, sampler and journal; Ray's processes are its "
        f"server and raylet, without the workers. Each worker is a process of {WORKER_BYTES / GIB:.2f} GiB, so rows "
        "that do not fit into free memory are left out. `on test` is the driver's CPU time of a measurement after the "
        f"search, `put` that of an object of {PUT // 2**20} MiB in the object store.",
        ["a trial", "at once", "trials/min", "of ideal", "driver ms", "Ray ms", "on test ms", "put ms", "note"],
        [_row(seconds, size) for seconds in lengths for size in sizes],
    )


def _row(seconds: float, at_once: int) -> list[Cell]:
    name: list[Cell] = [f"sleeps {seconds:g} s", at_once]
    need, free = at_once * WORKER_BYTES / GIB, psutil.virtual_memory().available * MEMORY_SHARE / GIB
    if need > free:
        return [*name, *[None] * 6, f"needs {need:.0f} GiB, {free:.0f} are free"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", f"from {__name__} import search; search()", folder, str(seconds), str(at_once)]
        subprocess.run(command, check=True, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(Path(folder, "found.json").read_text())
    rate = found["trials a minute"]
    ideal = 60 * at_once / seconds
    return [*name, rate, f"{rate / ideal:.0%}", *(found[key] for key in ("driver", "ray", "test", "put")), ""]


def search() -> None:
    """The program of a row: DIR SECONDS AT_ONCE."""
    folder, seconds, at_once = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    spec = _spec(folder, trials=WAVES * at_once, concurrency=at_once, cpus_per_trial=SHARE)
    subject = Sleeping(seconds, folder / "begun", sys.maxsize, None)
    with runner.cluster(spec.search, None) as plan:
        records = Records(folder)
        searching = _cpu(lambda: runner.run_search(spec, subject, records, plan, lambda trial: None))
        found = {"driver": searching["driver"] / len(records.trials), "ray": searching["ray"] / len(records.trials)}
        found |= {"trials a minute": _rate(records, at_once), "test": _test(spec, subject, plan), "put": _put()}
    (folder / "found.json").write_text(json.dumps(found))


def _spec(folder: Path, **search: Any) -> Spec:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"name": "driver", "space": SPACE, "search": search}))
    return load(file)


def _cpu(work: Callable[[], Any]) -> dict[str, float]:
    """CPU milliseconds of this process and of Ray's server and raylet."""
    ray = [child for child in psutil.Process().children() if child.name() in ("raylet", "gcs_server")]

    def spent() -> float:
        return sum(sum(child.cpu_times()[:2]) for child in ray)

    before, begin = spent(), time.process_time()
    work()
    return {"driver": 1000 * (time.process_time() - begin), "ray": 1000 * (spent() - before)}


def _rate(records: Records, at_once: int) -> float:
    """Trials per minute after the first wave."""
    ends = sorted(trial.ended for trial in records.trials.values())
    return 60 * (len(ends) - at_once) / (ends[-1] - ends[at_once - 1])


def _test(spec: Spec, subject: Sleeping, plan: Plan) -> float:
    """The driver's CPU milliseconds of a measurement after the search."""
    jobs = [Job(spec.adapt, number) for number in range(2 * plan.concurrency)]
    measured = _cpu(lambda: list(runner.measure_all(subject, jobs, plan, print, on_test=True)))
    return measured["driver"] / len(jobs)


def _put() -> float:
    import ray

    whole = np.zeros(PUT, np.uint8)
    return _cpu(lambda: ray.put(whole))["driver"]


def parts(settings: Settings) -> Table:
    """The driver's work without workers."""
    sizes = (2, 4) if settings.quick else AT_ONCE
    with tempfile.TemporaryDirectory() as folder:
        measured = [_parts(Path(folder, str(size)), size, 8 if settings.quick else MODELLED) for size in sizes]
    return Table(
        "(j) The driver's parts against trials at once",
        "CPU milliseconds of the driver for one trial, without workers. A suggestion is drawn while all workers are "
        f"busy, with {MODELLED} results for the model and {MOST_MODELLED + 1} for TPE. The journal has the start and "
        "the end of each trial, with its curve. `trials.csv` and reading the journal cost that once, with three trials "
        "for each at once; trials.csv may take 5% of a search's time. MLflow is a local SQLite store, written by a "
        "thread.",
        ["part", *(f"{size:,} at once" for size in sizes)],
        [[name, *(column[name] for column in measured)] for name in measured[0]],
    )


def _parts(folder: Path, at_once: int, results: int) -> dict[str, float]:
    folder.mkdir()
    spec = _spec(folder, concurrency=at_once)
    return {
        "suggestion, Gaussian process": _suggestion(spec, at_once, results),
        "suggestion, TPE": _suggestion(spec, at_once, MOST_MODELLED + 1),
        **_files(folder, spec, WAVES * at_once),
        "MLflow": _mlflow(folder / "logged", spec),
    }


def _suggestion(spec: Spec, at_once: int, results: int) -> float:
    """Milliseconds of a suggestion while as many trials run as may run ahead of the results."""
    points = _points(spec, results + lag(at_once) - 1)
    taken = [(point, objectives_of(spec.search, _metrics(spec, point))) for point in points[:results]]
    suggestions = Suggestions(spec, at_once, {}, taken, points[results:])
    while suggestions._first:
        _ask(suggestions, results, at_once)
    return median(_cpu(lambda: _ask(suggestions, results, at_once))["driver"] for _ in range(DRAWN))


def _ask(suggestions: Suggestions, results: int, at_once: int) -> None:
    """The next suggestion, once the results on which it rests are told."""
    for number in range(results, len(suggestions._asked) - lag(at_once) + 1):
        suggestions.tell(number, [0.3, 0.3])
    assert suggestions.ready()
    suggestions.ask()


def _points(spec: Spec, count: int) -> list[dict[str, Any]]:
    cube = Cube(spec.space, spec.adapt)
    return [cube.parameters(point) for point in np.random.default_rng(0).random((count, len(cube)))]


def _metrics(spec: Spec, parameters: Mapping[str, Any]) -> dict[str, float]:
    filtered, quality = trade_off(trial_config(spec, dict(parameters)))
    return dict.fromkeys(METRICS, 0.25) | {"hr_at_10": quality, "filter_rate": filtered}


def _files(folder: Path, spec: Spec, trials: int) -> dict[str, float]:
    records = Records(folder)
    records.begin({})
    records._table_due = float("inf")
    recorded = _cpu(lambda: _record(records, spec, trials))["driver"] / trials
    table, read = _cpu(records.write_table)["driver"], _cpu(lambda: Records(folder))["driver"]
    return {"journal": recorded, "trials.csv, once": table, "reading the journal, once": read}


def _record(records: Records, spec: Spec, trials: int) -> None:
    curve = Formula().measure(AdaptConfig(), "valid", 0).curve("hr_at_10")
    for number, parameters in enumerate(_points(spec, trials)):
        records.started(number, parameters)
        records.finished(number, _metrics(spec, parameters), curve)


def _mlflow(folder: Path, spec: Spec) -> float:
    from search.track.mirror import Mirror

    folder.mkdir()
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    try:
        records = Records(folder)
        records.begin({})
        mirror = Mirror("driver", records, {})
        mirror.write()
        _record(records, spec, LOGGED)
        return _cpu(mirror.write)["driver"] / LOGGED
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
