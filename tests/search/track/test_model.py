"""The MLflow model of a search's answer: logged once, registered, loaded and served by MLflow's own tools."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from etarec.serving import load
from search.track import model
from tests.etarec.serving.made_up_run import made_up_run

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = made_up_run(tmp_path)
    (folder / "provenance.json").write_text("{}")
    return folder


@pytest.fixture
def logged(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the run that has the model, in a store of its own."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment("made-up")).info.run_id
    assert model.log(client, run_id, run)
    assert not model.log(client, run_id, run)
    return run_id


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def post(url: str, body: Any, seconds: float) -> Any:
    """The answer of a server that may still be starting."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
        time.sleep(0.5)
    raise AssertionError(f"no answer from {url}")


def test_the_model_is_registered_loaded_and_served(run: Path, logged: str) -> None:
    recommender = load(run)
    history = recommender.catalogue.tokens[3:6]
    (expected,) = recommender.recommend([history], k=4)
    registered = mlflow.register_model(f"runs:/{logged}/{model.NAME}", "etarec-made-up")
    uri = f"models:/etarec-made-up/{registered.version}"

    loaded = mlflow.pyfunc.load_model(uri)
    found = loaded.predict(pd.DataFrame({"history": [history, history[:1]]}), params={"k": 4})
    assert tuple(found["items"][0]) == expected.items and len(found["scores"][1]) == 4
    assert found["scores"][0] == pytest.approx(list(expected.scores), abs=1e-5)
    unseen = loaded.predict(pd.DataFrame({"history": [history]}), params={"k": 40, "leave_out_seen": True})
    assert not {*unseen["items"][0]} & {*history} and len(unseen["items"][0]) == len(recommender.catalogue) - 3
    about = mlflow.models.get_model_info(uri)
    assert about.metadata == {"verdict": "use_chosen", "advice": "Use trial-0002.", "search": "run"}
    assert about.signature == model.SIGNATURE and about.saved_input_example_info

    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
    environment = {**os.environ, "PYTHONPATH": ""}
    with Path("serve.log").open("w") as log:
        options = ["--port", str(port), "--workers", "1"]
        server = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        body = {"dataframe_split": {"columns": ["history"], "data": [[history]]}, "params": {"k": 4}}
        answer = post(f"http://127.0.0.1:{port}/invocations", body, 240)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    assert answer["predictions"][0]["items"] == list(expected.items)


def test_a_search_that_chose_nothing_has_no_model(tmp_path: Path) -> None:
    (tmp_path / "chosen.yaml").write_text("trial_id: null\nwhy: No trial finished\n")
    (tmp_path / "spec.yaml").write_text("name: made-up\n")
    assert not model.log(mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), "no run", tmp_path)
