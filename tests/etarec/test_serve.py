"""`python -m etarec.serve` answers, is private unless told otherwise, and ends with a snapshot."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etarec import serve
from etarec.config import UserError
from tests.etarec.serving.made_up_run import made_up_run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_token(host):
    serve.check_reachable(host, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_an_address_for_others_needs_a_token(host):
    serve.check_reachable(host, "secret")
    with pytest.raises(UserError, match="expected a token in ETAREC_TOKEN"):
        serve.check_reachable(host, "")


def test_a_folder_without_a_search_ends_with_a_message(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ETAREC_TOKEN", raising=False)
    assert serve.main([str(tmp_path)]) == 2
    assert "chosen.yaml: cannot be read" in capsys.readouterr().err
    assert serve.main([str(tmp_path), "--host", "0.0.0.0"]) == 2


@contextmanager
def serving(run: Path, *options: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """The address of a service on `run`, which must end with status 0 at the signal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ETAREC_TOKEN": "secret"}
    command = [sys.executable, "-m", "etarec.serve", str(run), "--port", str(port), *options]
    process = subprocess.Popen(command, env=environment, cwd=run.parent, stdout=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health")
        yield address
    finally:
        process.send_signal(stop)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "verdict     Use trial-0002." in out and f"serving     {address}" in out


def wait_for(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(0.2)
    raise AssertionError(f"no answer from {url}")


def ask(url: str, body: Any = None) -> Any:
    headers = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        text = answer.read().decode()
    return text if url.endswith("metrics") else json.loads(text)


@pytest.mark.slow
def test_a_service_recommends_learns_stops_and_continues(tmp_path):
    run = made_up_run(tmp_path)
    seen = [{"user": f"user {n % 7}", "item": str(n)} for n in range(5)]
    with serving(run) as address:
        asked = {"users": ["nobody"], "k": 3}
        items = ask(f"{address}/recommend", asked)["recommendations"][0]["items"]
        seen += [{"user": f"user {n % 7}", "item": items[n % 3]} for n in range(40)]
        told = ask(f"{address}/observe", {"observations": seen})
        assert told["taken"] >= 40 and told["batches"] == 2
        before = ask(f"{address}/recommend", {"users": ["user 3"]})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address}/metrics", timeout=60)
    assert (run / "serving" / "snapshot.safetensors").exists()
    (tmp_path / "clicks.csv").unlink()  # the state has what the log said
    with serving(run, stop=signal.SIGINT) as address:
        assert ask(f"{address}/recommend", {"users": ["user 3"]}) == before
        assert f"etarec_observations_total {told['taken']}\n" in ask(f"{address}/metrics")
