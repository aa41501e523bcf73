"""`python -m etarec.serve` answers, is private unless told otherwise, and ends with a snapshot."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from etarec import serve
from etarec.config import UserError
from etarec.serving import read
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


def test_an_answer_does_not_wait_for_the_client_to_confirm_its_headers() -> None:
    with serve.listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_ends_with_a_message(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ETAREC_TOKEN", raising=False)
    run = made_up_run(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert serve.main([str(run), "--port", str(other.getsockname()[1])]) == 2
        assert "cannot listen there ([Errno 98] Address already in use" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        serve.main([str(run), "--port", "80800"])
    assert "argument --port: given 80800, expected a number from 0 to 65535" in capsys.readouterr().err
    with serve.listening("127.0.0.1", 0) as listener:
        assert serve.address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_search_without_a_recommended_trial_is_served_by_a_baseline(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ETAREC_TOKEN", raising=False)
    run = made_up_run(tmp_path)
    chosen = yaml.safe_load((run / "chosen.yaml").read_text())
    none = {"verdict": "do_not_adapt", "advice": "Do not adapt.", "trial_id": None, "why": "None won."}
    (run / "chosen.yaml").write_text(yaml.safe_dump(none))
    assert serve.main([str(run), "--port", "0"]) == 2
    message = "no trial to serve (None won.); expected --baseline none, as its verdict advises\n"
    assert capsys.readouterr().err.endswith(message)
    process, address = begun(run, "--baseline", "none", verdict="Do not adapt.\n", serves="baseline none\n")
    assert ask(f"{address}/health")["serves"] == "baseline none"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "") and (run / "serving-none" / "snapshot.safetensors").exists()
    (run / "chosen.yaml").write_text(yaml.safe_dump(chosen | none | {"trial_id": "trial-0002"}))
    assert serve.hint(read(run), None) == " (the verdict: --baseline none)"
    assert serve.hint(read(run), "none") == ""


@contextmanager
def serving(run: Path, *options: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """The address of a service on `run`, which must end with status 0 at the signal."""
    process, address = begun(run, *options)
    try:
        yield address
    finally:
        process.send_signal(stop)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def begun(
    run: Path, *options: str, verdict: str = "Use trial-0002.\n", serves: str = "trial-0002\n"
) -> tuple[subprocess.Popen[str], str]:
    """A service on `run` and its address, once it has told both."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ETAREC_TOKEN": "secret"}
    command = [sys.executable, "-m", "etarec.serve", str(run), "--port", "0", *options]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, cwd=run.parent, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    told = dict(line.split(maxsplit=1) for line in itertools.islice(process.stdout, 4))
    assert (told["verdict"], told["serves"]) == (verdict, serves)
    return process, told["serving"].strip()


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


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_loses_no_observation(tmp_path):
    """The first one waits for the calls in progress, and a call whose body is awaited is one."""
    run = made_up_run(tmp_path)
    process, address = begun(run)
    items = ask(f"{address}/recommend", {"users": ["nobody"], "k": 3})["recommendations"][0]["items"]
    seen = [{"user": f"user {n % 7}", "item": items[n % 3]} for n in range(40)]
    ask(f"{address}/observe", {"observations": seen})
    before = ask(f"{address}/recommend", {"users": ["user 3"]})
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(b"POST /observe HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        ask(f"{address}/health")  # the service has taken the call before
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err.encode()) == (130, serve.NO_SNAPSHOT)
    assert (run / "serving" / "journal-0.jsonl").exists()
    with serving(run) as address:
        assert ask(f"{address}/recommend", {"users": ["user 3"]}) == before


@pytest.mark.slow
def test_a_signal_during_the_start_is_not_lost(tmp_path):
    process, _ = begun(made_up_run(tmp_path))
    process.send_signal(signal.SIGTERM)  # the first line behind `serving` may not have run yet
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
