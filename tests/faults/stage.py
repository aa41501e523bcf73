"""The processes to kill: a tracking server, the nodes of a cluster, a search with its workers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import psutil

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[bytes]

ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/search")]),
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "1000",
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}

OBJECTIVES = ("hr_at_10", "filter_rate")
MEASURING = ("ray::TrialWorker", "ray::ResourceTrainable", "ray::measure")  # titles of processes that measure

COUNT_CPUS = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 120
while ray.cluster_resources().get("CPU", 0) < int(sys.argv[2]):
    if time.monotonic() > deadline:
        sys.exit(1)
    time.sleep(0.2)
"""


def restore_ctrl_c() -> None:
    """Let this process and its children react to Ctrl-C, even if a shell started it in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def start(command: list[str], folder: Path, log: str, **environment: str) -> Process:
    """Start a process in its own session, as a shell does; its output is appended to `folder`/`log`."""
    with (folder / log).open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def family(process: Process) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(members: list[psutil.Process]) -> None:
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def wait_until(what: str, true: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class TrackingServer:
    """An MLflow server over a SQLite file that survives a kill."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()
        wait_until("the tracking server", self.answers)

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--artifacts-destination", str(self.folder / "kept")]
        self.process = start([sys.executable, "-m", "mlflow", "server", *store, *place], self.folder, "server.log")

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200)
        return False

    def kill(self) -> None:
        kill_all(family(self.process))
        self.process.wait()


class Nodes:
    """A Ray cluster of several raylets on one machine: a head without CPUs, and nodes with one CPU each."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        self._ray = [*ray, "--object-store-memory", "100000000"]
        head = ["--head", "--port", str(self.port), "--num-cpus", "0", "--include-dashboard", "false"]
        self.workers: list[Process] = []
        self.head = start([*self._ray, *head, "--temp-dir", str(folder)], folder, "head.log")
        try:
            wait_until("the head", self._answers)
            for _ in range(count):
                self.add()
                self.wait_until_registered()  # two nodes that start at once may choose the same port
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def wait_until_registered(self) -> None:
        """Wait for all nodes: a search that starts earlier would use only the nodes registered by then."""
        command = [sys.executable, "-c", COUNT_CPUS, self.address, str(len(self.workers))]
        assert start(command, self.folder, "nodes.log").wait(timeout=180) == 0, "not all nodes registered"

    def add(self, **environment: str) -> None:
        command = [*self._ray, "--address", self.address, "--num-cpus", "1"]
        self.workers.append(start(command, self.folder, "nodes.log", **environment))

    def kill(self, random: Random) -> None:
        """Kill a random node and add another one."""
        lost = self.workers.pop(random.randrange(len(self.workers)))
        kill_all(family(lost))
        lost.wait()
        self.add()

    def stop(self) -> None:
        for process in (*self.workers, self.head):
            kill_all(family(process))
            process.wait()


class Search:
    """A search of tests.faults.program, which can be killed and resumed until it ends by itself."""

    def __init__(
        self,
        folder: Path,
        trials: int,
        sleep: float,
        tracking: str,
        address: str | None,
        temporary: Path,
        objectives: Sequence[str] = OBJECTIVES,
    ):
        self.folder, self.directory = folder, folder / "out"
        self._command = [sys.executable, str(Path(__file__).with_name("program.py")), str(folder), str(trials)]
        self._command += [str(sleep), address or "-", ",".join(objectives)]
        self._environment = {"MLFLOW_TRACKING_URI": tracking, "RAY_TMPDIR": str(temporary)}
        self.start()

    def start(self) -> None:
        how = "resume" if (self.directory / "trials.jsonl").exists() else "new"
        self.process = start([*self._command, how], self.folder, "output", **self._environment)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def workers(self, among: list[psutil.Process]) -> Iterator[psutil.Process]:
        for member in among:
            with contextlib.suppress(psutil.Error):
                if " ".join(member.cmdline()).startswith(MEASURING):
                    yield member

    def interrupt(self) -> None:
        """Send SIGINT to the whole process group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)
