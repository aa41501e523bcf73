"""(i) A served recommender under load: each user asks, then takes an item, one call after another, over HTTP."""

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
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from etarec import checkpoint
from etarec.config import AdaptConfig
from etarec.data import load_with_users, stream
from tests.benchmarks import material
from tests.benchmarks.frame import Cell, Settings, Table

ROOT = Path(__file__).parents[2]
CALLS = 4000  # of each kind
CONFIG = AdaptConfig(weighting="none", transitions="pending", filtered="residual", shallow_negatives=512)
MODELS = {"frozen": ["--frozen"], "adapting": ["--guard", "off"], "adapting, guarded": []}


def serving(settings: Settings) -> Table:
    """The embedded data and, where there is one, the log; a process on one core serves each model."""
    sources = [replace(settings, log=None)] + ([settings] if settings.log else [])
    rows = [row for source in sources for row in _rows(source)]
    return Table(
        "(i) Serving over HTTP",
        "`python -m etarec.serve` on one core with one thread. For each sample of the validation split its user is "
        "recommended ten items, then the sample's item is observed; one client makes one call after another. Every "
        f"{CONFIG.batch_size}th observation completes a batch, which is learned in that call: the maximum shows it, "
        "the 99th percentile does not. The guard ranks every sample by the frozen model too. Milliseconds include HTTP "
        "and JSON.",
        ["data", "model", "recommend p50 ms", "p99", "observe p50 ms", "p99", "max", "samples a second"],
        rows,
    )


def _rows(settings: Settings) -> Iterator[list[Cell]]:
    data = material.interactions(settings)
    samples = stream(data, "valid", "position", 0)
    count = 300 if settings.quick else CALLS
    items = data.items[data.offsets[samples.users] + samples.positions][:count]
    with tempfile.TemporaryDirectory() as name:
        run, names = _run(settings, Path(name))
        users = [names[user] for user in samples.users[:count]]
        tokens = [data.vocabulary[int(item) - 1].as_py() for item in items]
        for model, options in MODELS.items():
            with _service(run, options) as port:
                asked, told, seconds = _load(port, users, tokens)
            source = settings.log.name if settings.log else "embedded"
            latencies = [*_milliseconds(asked, 50, 99), *_milliseconds(told, 50, 99, 100)]
            yield [source, model, *latencies, len(users) / seconds]


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


def _wait(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
            line.request("GET", "/health")
            return
        time.sleep(0.2)
    raise TimeoutError("the service did not start within two minutes")


def _load(port: int, users: Sequence[str], items: Sequence[str]) -> tuple[list[float], list[float], float]:
    """Seconds of each call to recommend and to observe, and of all."""
    asked, told, begin = [], [], time.perf_counter()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        for user, item in zip(users, items, strict=True):
            asked.append(_call(line, "/recommend", {"users": [user], "k": 10}))
            told.append(_call(line, "/observe", {"observations": [{"user": user, "item": item}]}))
    return asked, told, time.perf_counter() - begin


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
