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
import yaml
from made_up_store import Store

from etarec.serving import load
from search.records.records import Records
from search.records.states import State
from search.track import model
from search.track.mirror import Mirror
from search.track.wanted import Outcome
from tests.etarec.serving.made_up_run import made_up_run

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_up_run(tmp_path / "made")


def ended(run: Path, records: Records) -> None:
    """The search ends, as `search.tune` and `search.track` end it in MLflow."""
    chosen = yaml.safe_load((run / "chosen.yaml").read_text())
    Mirror("made-up", records, {}).end(Outcome(State.FINISHED, artifacts=run, chosen=chosen))


def logged(store: Store) -> list[str]:
    """The runs that have a model of the name."""
    experiment = store.parent().info.experiment_id
    found = store.client.search_logged_models([experiment], f"name = '{model.NAME}'")
    return [str(one.source_run_id) for one in found]


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


def test_a_search_without_its_checkpoint_has_no_model(run: Path, records: Records, store: Store) -> None:
    (run / "checkpoint.safetensors").unlink()
    ended(run, records)
    assert logged(store) == [] and store.parent().info.status == "FINISHED"


def test_the_parents_model_is_registered_loaded_and_served(run: Path, records: Records, store: Store) -> None:
    ended(run, records)
    ended(run, records)
    parent = store.parent().info.run_id
    assert logged(store) == [parent]
    recommender = load(run)
    history = recommender.catalogue.tokens[3:6]
    (expected,) = recommender.recommend([history], k=4)
    registered = mlflow.register_model(f"runs:/{parent}/{model.NAME}", "etarec-made-up")
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
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow runs `uvicorn` by its name
    environment = {**os.environ, "PYTHONPATH": "", "PATH": path}
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
