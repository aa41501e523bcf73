"""(i) A served recommender under load: each user asks, then takes an item, one call after another, over HTTP.

The services of all models run on one core and are called in turns of a batch each, so that a machine whose speed drifts
changes them alike.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from etarec import checkpoint
from etarec.config import AdaptConfig
from etarec.data import load_with_users, stream
from tests.benchmarks import material
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.timing import Ratio

ROOT = Path(__file__).parents[2]
TURNS = 16  # of each model, after a first one that is not counted
QUICK_TURNS = 2
CONFIG = AdaptConfig(weighting="none", transitions="pending", filtered="residual", shallow_negatives=512)
FROZEN = "frozen"
MODELS = {FROZEN: ["--baseline", "none"], "adapting": ["--guard", "off"], "adapting, guarded": []}


@dataclass
class Calls:
    """Seconds of the calls to one model: to recommend, to observe, to observe the last of a batch, and whole turns."""

    asked: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    learned: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)


def serving(settings: Settings) -> Table:
    """The embedded data and, where there is one, the log; a process on one core serves each model."""
    sources = [replace(settings, log=None)] + ([settings] if settings.log else [])
    turns = QUICK_TURNS if settings.quick else TURNS
    rows = [row for source in sources for row in _rows(source, turns)]
    return Table(
        "(i) Serving over HTTP",
        "`python -m etarec.serve`, each model in a process with one thread, all on the same core. For each sample "
        "of the validation split a client asks for ten recommendations to its user, then reports the sample's "
        f"item; it makes one call after another. The models take turns of {CONFIG.batch_size} samples, {turns} "
        "each after a first one that is not counted. The last observation of a turn completes a batch, which is "
        "learned in that call; the column `batch` has these calls, `observe` the others. The guard ranks every "
        "sample by the frozen model too. Milliseconds include HTTP and JSON. Throughput is the median of the "
        "turns; the last column has its ratio to the frozen model's of the same turn, with the range.",
        [
            "data",
            "model",
            "recommend p50 ms",
            "p99",
            "observe p50 ms",
            "p99",
            "batch p50 ms",
            "max",
            "samples/s",
            "of frozen",
        ],
        rows,
    )


def _rows(settings: Settings, turns: int) -> Iterator[list[Cell]]:
    data = material.interactions(settings)
    samples, size = stream(data, "valid", "position", 0), CONFIG.batch_size
    count = (1 + turns) * size
    items = data.items[data.offsets[samples.users] + samples.positions][:count]
    with tempfile.TemporaryDirectory() as name:
        run, names = _run(settings, Path(name))
        users = [names[user] for user in samples.users[:count]]
        tokens = [data.vocabulary[int(item) - 1].as_py() for item in items]
        pairs = list(zip(users, tokens, strict=True))
        calls = _interleaved(run, [pairs[begin : begin + size] for begin in range(0, count, size)])
    frozen = calls[FROZEN].turns
    for model, own in calls.items():
        speeds = [one / other for one, other in zip(frozen, own.turns, strict=True)]
        ratio = str(Ratio(median(speeds), min(speeds), max(speeds)))
        latencies = [*_milliseconds(own.asked, 50, 99), *_milliseconds(own.told, 50, 99)]
        batches = _milliseconds(own.learned, 50, 100)
        source = settings.log.name if settings.log else "embedded"
        yield [source, model, *latencies, *batches, size / median(own.turns), ratio]


def _interleaved(run: Path, turns: Sequence[Sequence[tuple[str, str]]]) -> dict[str, Calls]:
    """The calls to each model, whose services take turns, in every second turn in reverse order."""
    calls = {model: Calls() for model in MODELS}
    with ExitStack() as stack:
        ports = {model: stack.enter_context(_service(run, options)) for model, options in MODELS.items()}
        for number, pairs in enumerate(turns):
            for model in list(MODELS)[:: 1 if number % 2 else -1]:
                with _line(ports[model]) as line:  # a service closes a connection that was idle for some seconds
                    _turn(line, pairs, calls[model] if number else Calls())
    return calls


def _turn(line: http.client.HTTPConnection, pairs: Sequence[tuple[str, str]], calls: Calls) -> None:
    begin = time.perf_counter()
    for number, (user, item) in enumerate(pairs, 1):
        calls.asked.append(_call(line, "/recommend", {"users": [user], "k": 10}))
        seconds = _call(line, "/observe", {"observations": [{"user": user, "item": item}]})
        (calls.learned if number == len(pairs) else calls.told).append(seconds)
    calls.turns.append(time.perf_counter() - begin)


def _run(settings: Settings, folder: Path) -> tuple[Path, Sequence[str]]:
    """The folder of a search, as far as serving needs it, and the users' tokens."""
    config = material.data_config(settings)
    checkpoint.write(material.checkpoint(settings), folder / "checkpoint.safetensors")
    source = {"path": config.path} if config.path else {"dataset": "simulated"}
    about = {**source, "simulation": dataclasses.asdict(config.simulation)}
    (folder / "spec.yaml").write_text(yaml.safe_dump({"data": about}))
    (folder / "chosen.yaml").write_text(yaml.safe_dump({"adapt": dataclasses.asdict(CONFIG)}))
    return folder, load_with_users(config)[1].to_pylist()


@contextmanager
def _service(run: Path, options: Sequence[str]) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "etarec.serve", str(run), "--port", str(port), *options]
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen([*command, "--state", state], cwd=ROOT, stdout=subprocess.DEVNULL)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        try:
            _wait(port)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _line(port: int) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port))


def _wait(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), _line(port) as line:
            line.request("GET", "/health")
            return
        time.sleep(0.2)
    raise TimeoutError("the service did not start within two minutes")


def _call(line: http.client.HTTPConnection, path: str, body: Any) -> float:
    begin = time.perf_counter()
    line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = line.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {text!r}")
    return time.perf_counter() - begin


def _milliseconds(seconds: Sequence[float], *percentiles: int) -> list[float]:
    return [float(np.percentile(seconds, one)) * 1000 for one in percentiles]
