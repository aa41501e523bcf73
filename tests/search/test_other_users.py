"""Another user of the machine can neither read the temporary files of a search nor reach its Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from search.running import ray_internals
from search.running.address import TOKEN_FILE
from search.running.cluster import cluster
from search.spec import SearchConfig

NOBODY = 65534
PROGRAM = """
import json, os, sys
from pathlib import Path
from ray._raylet import GcsClient

def tried(act):
    try:
        return str(act())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

gcs, folder, token, user = sys.argv[1:]
if user != "0":  # once everything is imported: this Python may lie where another user cannot enter
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
found = {
    "token": tried(Path(token).read_text),
    "folder": tried(lambda: os.listdir(folder)),
    "ray": tried(lambda: len(GcsClient(address=gcs).get_all_node_info(timeout=10))),
}
print(json.dumps(found))
"""
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]


def attempts(gcs: str, folder: Path, token: Path, user: int, **variables: str) -> dict[str, str]:
    """The answers to a process of a user: to reading the token, listing the folder, and asking Ray for its nodes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    command = [sys.executable, "-c", PROGRAM, gcs, str(folder), str(token), str(user)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=True)
    answers: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_another_user_reads_nothing_and_submits_nothing() -> None:
    with cluster(SearchConfig(concurrency=1), None):
        folder = ray_internals.folder_of_cluster().parent
        (server,) = [one for one in psutil.Process().children(recursive=True) if one.name() == "gcs_server"]
        (port,) = {one.laddr.port for one in server.net_connections("inet") if one.status == psutil.CONN_LISTEN}
        gcs, token = f"127.0.0.1:{port}", Path.home() / TOKEN_FILE
        known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token.read_text().strip()}
        owner = attempts(gcs, folder, token, 0, **known)
        told = attempts(gcs, folder, token, NOBODY, **known)
        guessing = attempts(gcs, folder, token, NOBODY, **{**known, "RAY_AUTH_TOKEN": "0" * 64})
        without = attempts(gcs, folder, token, NOBODY, RAY_AUTH_MODE="disabled")
    assert owner["ray"] == told["ray"] == "1"  # the token alone makes the difference
    assert "ray" in owner["folder"] and owner["token"].strip() == known["RAY_AUTH_TOKEN"]
    for stranger in (guessing, without):
        assert stranger["token"].startswith("PermissionError") and stranger["folder"].startswith("PermissionError")
        assert "uthenticat" in stranger["ray"] and "Error" in stranger["ray"]
