"""(m) The parts of the driver's work, against the number of trials at once.

They are measured without workers and need no memory for them; raylets.py runs whole searches.
"""

import os
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
from search.running.learning import lag
from search.running.suggest import MOST_MODELLED, Suggestions
from search.spec import Spec, load, objectives_of, trial_config
from search.surrogate.cube import Cube
from tests.benchmarks.frame import Settings, Table
from tests.benchmarks.throughput import SPACE
from tests.search.formula import Formula, trade_off

AT_ONCE = (64, 256, 1024)
WAVES = 3  # of trials; the first one, in which workers start, does not count
MODELLED = MOST_MODELLED - 20  # results of a suggestion by the model
LOGGED = 24  # trials that are copied to MLflow
DRAWN = 3  # suggestions, of which the median counts


def spec_of(folder: Path, **search: Any) -> Spec:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"name": "driver", "space": SPACE, "search": search}))
    return load(file)


def cpu(work: Callable[[], Any]) -> dict[str, float]:
    """CPU milliseconds of this process and of Ray's server and raylet."""
    ray = [child for child in psutil.Process().children() if child.name() in ("raylet", "gcs_server")]

    def spent() -> float:
        return sum(sum(child.cpu_times()[:2]) for child in ray)

    before, begin = spent(), time.process_time()
    work()
    return {"driver": 1000 * (time.process_time() - begin), "ray": 1000 * (spent() - before)}


def parts(settings: Settings) -> Table:
    """The driver's work without workers."""
    sizes = (2, 4) if settings.quick else AT_ONCE
    with tempfile.TemporaryDirectory() as folder:
        measured = [_parts(Path(folder, str(size)), size, 8 if settings.quick else MODELLED) for size in sizes]
    return Table(
        "(m) The driver's parts against trials at once",
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
    spec = spec_of(folder, concurrency=at_once)
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
    return median(cpu(lambda: _ask(suggestions, results, at_once))["driver"] for _ in range(DRAWN))


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
    recorded = cpu(lambda: _record(records, spec, trials))["driver"] / trials
    table, read = cpu(records.write_table)["driver"], cpu(lambda: Records(folder))["driver"]
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
        return cpu(mirror.write)["driver"] / LOGGED
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
