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


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_search_keeps_them_to_itself(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        there = server.address.replace("://", f"://somebody:{PASSWORD}@")
        paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        environment = {**os.environ, **SECRETS, "PYTHONPATH": paths, "MLFLOW_TRACKING_URI": there}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), "4", "0"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"trial-0003" in content for path, content in files.items() if path.name.startswith("server.db"))
    assert tmp_path / "run/out/report.html" in files
    files |= {Path("standard output"): done.stdout, Path("standard error"): done.stderr}
    token = (Path.home() / TOKEN_FILE).read_text().strip()
    secrets = [PASSWORD, token, *SECRETS.values()]
    told = {(secret, path) for secret in secrets for path, content in files.items() if secret.encode() in content}
    assert not told
