"""The MLflow model of a search's answer: logged once, registered, loaded and served by MLflow's own tools."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import version
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
from tests.pages import blocks, commands, page

PAGE = page("docs/serving.md")

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


def command_of_the_page(beginning: str, port: int) -> list[str]:
    """The words of a command of docs/serving.md with another port."""
    (command,) = commands(PAGE, beginning)
    assert ("5001" in command) and command.split()[0] in ("mlflow", "curl")
    return command.replace("5001", str(port)).split()


def register() -> str:
    """The run whose model the page's Python registers, as `demo`."""
    _, code = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace('get_experiment_by_name("demo")', 'get_experiment_by_name("made-up")'), {})
    run_id, number = printed.getvalue().split()
    assert number == "1"
    return run_id


def request_of_the_page(history: list[str]) -> str:
    """The request of the page for another history."""
    (request,) = [block for block in blocks(PAGE) if block.startswith("{")]
    body = json.loads(request)
    body["dataframe_split"]["data"] = [[history]]
    return json.dumps(body)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answer(command: list[str], seconds: float) -> Any:
    """The answer that `command` gets from a server that may still be starting."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        time.sleep(0.5)
    raise AssertionError(f"no answer to {command}")


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
    (expected,) = recommender.recommend([history], k=5)
    assert register() == parent
    uri = "models:/demo/1"

    loaded = mlflow.pyfunc.load_model(uri)
    found = loaded.predict(pd.DataFrame({"history": [history, history[:1]]}), params={"k": 5})
    assert tuple(found["items"][0]) == expected.items and len(found["scores"][1]) == 5
    assert found["scores"][0] == pytest.approx(list(expected.scores), abs=1e-5)
    unseen = loaded.predict(pd.DataFrame({"history": [history]}), params={"k": 40, "leave_out_seen": True})
    assert not {*unseen["items"][0]} & {*history} and len(unseen["items"][0]) == len(recommender.catalogue) - 3
    about = mlflow.models.get_model_info(uri)
    assert about.metadata == {"verdict": "use_chosen", "advice": "Use trial-0002.", "search": "run"}
    assert about.signature == model.SIGNATURE and about.saved_input_example_info
    assert f"torch=={version('torch')}" in Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text()

    port = free_port()
    command = [sys.executable, "-m", *command_of_the_page("mlflow models serve", port), "--workers", "1"]
    Path("request.json").write_text(request_of_the_page(history))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow runs `uvicorn` by its name
    environment = {**os.environ, "PYTHONPATH": "", "PATH": path}
    with Path("serve.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        served = answer(command_of_the_page("curl --silent --json @", port), 240)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    assert served["predictions"][0]["items"] == list(expected.items)
