"""A real `mlflow server` that a test can kill, stop and start again."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.stage import free_port

START_SECONDS = 150


class Server:
    """The server that `command` starts, by default one over SQLite in `folder`. It logs to `folder`/server.log."""

    def __init__(self, folder: Path, command: Sequence[str] = (), environment: Mapping[str, str] | None = None):
        self.folder, self.port = folder, free_port()
        own = ["-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
        self.command = list(command) or [sys.executable, *own, *store]
        without = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        self.environment = {
            **without,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        environment = {**self.environment, "MLFLOW_PORT": str(self.port)}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=10):
                return self
            time.sleep(0.2)
        self.kill()
        raise AssertionError(f"the server did not start: {(self.folder / 'server.log').read_text()}")

    def signal(self, which: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, which)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def empty(self) -> None:
        """Delete the SQLite store. The server must not be running."""
        for file in self.folder.glob("server.db*"):
            file.unlink()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
