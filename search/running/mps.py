"""CUDA's Multi-Process Service (MPS) for the time of a search, so that trials on one GPU run side by side.

Without MPS, processes take turns on a GPU, and a trial leaves most of its turn idle. A GPU fault ends the work of all
processes that share the GPU; the trials lost to it are repeated. NVIDIA's manual: docs.nvidia.com/deploy/mps.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
FOLDER = "mps"  # of the service's files, in a search's scratch folder
OLDEST = (7, 0)  # compute capability; on older GPUs the service does not protect one process's memory from another
PATIENCE = 30.0  # seconds to wait for an answer
GRACE = 5  # seconds that processes get when the service ends

# Exits with 0 if it can compute on every GPU. It calls the CUDA driver, because importing torch takes seconds.
_TRY_OUT = """
import ctypes, time
cuda = ctypes.CDLL("libcuda.so.1")
count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
for attempt in range(20):
    wrong = cuda.cuInit(0)
    if wrong != 807:  # the service is not ready yet
        break
    time.sleep(0.5)
wrong = wrong or cuda.cuDeviceGetCount(ctypes.byref(count))
for number in range(count.value):
    wrong = wrong or cuda.cuDeviceGet(ctypes.byref(device), number)
    wrong = wrong or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
raise SystemExit(f"CUDA error {wrong}" if wrong else 0)
"""


def offered() -> bool:
    """Whether this machine has GPUs all of which can be shared by MPS.

    CUDA_VISIBLE_DEVICES must not select or reorder them, since MPS and Ray would then number them differently.
    """
    count, chosen = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not count or shutil.which(CONTROL) is None or chosen not in (None, ",".join(map(str, range(count)))):
        return False
    return all(torch.cuda.get_device_capability(number) >= OLDEST for number in range(count))


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Runs MPS for processes that start in the block. Yields the reason if it cannot, else an empty text.

    A service that the user has started is used instead. folder: an existing folder for this block alone.
    """
    if _answer("get_server_list", os.environ) is not None:
        yield ""
        return
    files = folder / FOLDER
    files.mkdir()
    ours = {PIPES: str(files), LOGS: str(files)}
    before = {name: os.environ.get(name) for name in ours}
    try:
        fault = _start(os.environ | ours)
        if not fault:
            os.environ |= ours
        yield fault
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        end(folder)


def end(folder: Path) -> None:
    """Ends the service of this folder, if one runs. Ctrl-C stops the wait, and the service ends all the same."""
    files = folder / FOLDER
    if files.is_dir():
        _answer(f"quit -t {GRACE}", os.environ | {PIPES: str(files)})


def _start(environment: Mapping[str, str]) -> str:
    for command in ([CONTROL, "-d"], [sys.executable, "-c", _TRY_OUT]):
        fault = _run(command, environment)
        if fault:
            return fault
    return "" if _answer("get_server_list", environment) else "the service accepts no process"


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """Runs a command and returns its error message, empty if it succeeded."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer in {PATIENCE:.0f} s"
    except OSError as error:
        return str(error)
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if not done.returncode else said[-1] if said else f"exit status {done.returncode}"


def _answer(question: str, environment: Mapping[str, str]) -> str | None:
    """The service's answer, or None if no service runs."""
    try:
        done = subprocess.run(
            [CONTROL],
            env=environment,
            input=question + "\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
