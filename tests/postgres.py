"""A PostgreSQL server that lives as long as a test, run from an installed PostgreSQL."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stage import free_port

PASSWORD = "p@ss %w:o/rd#"  # characters that an address must escape


def programs() -> Path:
    """The folder of initdb and postgres. Debian installs them outside PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    if (initdb := shutil.which("initdb")) is None:
        pytest.fail("tests marked `postgres` need the programs of a PostgreSQL server: apt-get install postgresql")
    return Path(initdb).resolve().parent


class Postgres:
    """A server on a free port of 127.0.0.1 with the superuser `mlflow`. Its files are removed at the end."""

    def __init__(self) -> None:
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="etarec-postgres-")), free_port()
        self.owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # postgres refuses to run as root
            self.owner = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
            shutil.chown(self.folder, "postgres")

    def __enter__(self) -> "Postgres":
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        data = self.folder / "data"
        initdb = [programs() / "initdb", "-D", data, "-U", "mlflow", "-A", "scram-sha-256", "-N", "-E", "UTF8"]
        self.run([*initdb, "--locale=C", f"--pwfile={self.folder}/password"])
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", self.folder, "-p", str(self.port)]
        with (self.folder / "log").open("wb") as log:
            command = [programs() / "postgres", "-D", data, *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self.owner)
        ready = [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder)

    def run(self, command: list[object]) -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd="/", **self.owner)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    def new_database(self) -> str:
        """Create a database and return its SQLAlchemy address, without the password."""
        name = f"mlflow_{secrets.token_hex(4)}"
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow"]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run([programs() / "createdb", *address, name], check=True, env=environment)
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/{name}"
