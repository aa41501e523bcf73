"""Compiles the C sources of this package for the processor at hand, at their first use.

A library is kept beside the package's bytecode, one for each source, set of sizes and processor. Where that folder
cannot be written, each process compiles its own in a few seconds. `library` returns None without a C compiler, and
the caller computes the same in torch. ETAREC_COMPILED=no forces torch everywhere, on a GPU as well, because Triton
needs a C compiler too.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from etarec.disk import whole_file

COMPILE_SECONDS = 120.0
# Sums may be reordered for vector units; NaN and infinity are preserved.
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-aggressive-loop-optimizations",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
)


def kind() -> str:
    """The code that this machine's CPU runs, recorded because the last digits of results depend on it."""
    return "compiled" if compiler() else "torch"


def forbidden() -> bool:
    """Whether the user asked for torch everywhere."""
    return os.environ.get("ETAREC_COMPILED") == "no"


@functools.cache
def compiler() -> str | None:
    """Path of the C compiler; None if there is none or the user forbids it."""
    if forbidden():
        return None
    found = (shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang"))
    return next((path for path in found if path), None)


def cpu_float32(*tensors: Tensor) -> bool:
    """Whether all tensors have the device and the precision that the C code computes in."""
    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)


@functools.cache
def library(source: Path, *sizes: tuple[str, int]) -> ctypes.CDLL | None:
    """The loaded library of a source, compiled with `sizes` as constants; None without a compiler or where it fails."""
    cc = compiler()
    if cc is None:
        return None
    constants = [f"-D{name}={value}" for name, value in sizes]
    texts = [file.read_text(encoding="utf-8") for file in (source, *sorted(source.parent.glob("*.h")))]
    key = "\0".join([*texts, cc, *FLAGS, *constants, _processor()])
    name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    kept = source.parent / "__pycache__" / name
    if kept.exists():
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, name)
        if not _compiles([cc, *FLAGS, *constants, "-shared", "-fPIC", str(source), "-o", str(made), "-lm"]):
            return None
        return ctypes.CDLL(str(kept if _keeps(made, kept) else made))  # stays loaded when the file is gone


def _compiles(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _keeps(made: Path, kept: Path) -> bool:
    """Whether the library could be put into its place; other processes may put theirs there at the same time."""
    try:
        kept.parent.mkdir(exist_ok=True)
        with whole_file(kept) as partial:
            shutil.copy(made, partial)
    except OSError:
        return False
    return True


def _processor() -> str:
    """Description of the processor, on which the effect of -march=native depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"
