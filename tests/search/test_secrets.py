"""No secret of the environment lands in a file of a search, in its output or in MLflow's store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.running.address import TOKEN_FILE
from tests.tracking_server import Server

HERE = Path(__file__).parent
PROGRAM = """
import sys, formula_search
from search.redact import redacting
with redacting(""):
    sys.exit(formula_search.main())
"""
PASSWORD = "Pass-5fd1c0"
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "Basic-91ce4d",
    "MLFLOW_TRACKING_USERNAME": "User-0c8fe2",
    "MLFLOW_S3_ENDPOINT_URL": "http://Endpoint-4b1a90@127.0.0.1",
    "AWS_SECRET_ACCESS_KEY": "Aws-3f6d21",
    "HF_TOKEN": "Hub-e5b7a8",
    "MINE": "Value-c2d94e",
}


STORES = {  # a query that SQLite ignores; a server that is away
    "database": "sqlite:///file:{folder}/mlflow.db?token={secret}&uri=true",
    "address": "http://127.0.0.1:1/mlflow?user=ada&token={secret}",
}


def search(folder: Path, store: str) -> dict[Path, bytes]:
    """Every file below `folder` after a search in it that tracks to `store`, and what it printed."""
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {**os.environ, **SECRETS, "PYTHONPATH": paths, "MLFLOW_TRACKING_URI": store}
    command = [sys.executable, "-c", PROGRAM, str(folder / "run"), "4", "0"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "run/out/report.html" in files
    return files | {Path("standard output"): done.stdout, Path("standard error"): done.stderr}


def told(secret: str, files: dict[Path, bytes]) -> list[Path]:
    """The files that hold a secret."""
    return [path for path, content in files.items() if secret.encode() in content]


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_search_keeps_them_to_itself(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        files = search(tmp_path, server.address.replace("://", f"://somebody:{PASSWORD}@"))
    assert any(b"trial-0003" in content for path, content in files.items() if path.name.startswith("server.db"))
    token = (Path.home() / TOKEN_FILE).read_text().strip()
    assert {secret: told(secret, files) for secret in (PASSWORD, token, *SECRETS.values())} == {
        secret: [] for secret in (PASSWORD, token, *SECRETS.values())
    }


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", STORES)
def test_a_token_in_the_store_s_query_is_told_nowhere(tmp_path: Path, kind: str) -> None:
    files = search(tmp_path, STORES[kind].format(folder=tmp_path, secret=PASSWORD))
    assert told(PASSWORD, files) == []
    assert (b"trial-0003" in files.get(tmp_path / "mlflow.db", b"")) == (kind == "database")
    assert told("?...", files)  # the address itself is shown, without its query
